package fetch

// Sets returns the sets that are known, in the order to list them.
//
// Where the sums come from: MNIST's and CIFAR-10's were compared with the
// official MD5 sums of the same files; those of the CIFAR archives and of
// CIFAR-100's files are what other public loaders pin; TSRD publishes none, so
// its sums record the copy that cordon was developed with. The addresses could
// not be tried where this was written; a wrong one is an error, never a wrong set.
func Sets() []Set {
	return []Set{mnist(), cifar10(), cifar100(), tsrd()}
}

// megabyte is the unit of the bounds, which are well above the sets' sizes.
const megabyte = 1_000_000

func mnist() Set {
	files := []File{
		{"train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"},
		{"train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"},
		{"t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"},
		{"t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"},
	}
	set := Set{
		Name:     "mnist",
		Summary:  "handwritten digits, 28×28 grey, 60000 + 10000 images, 10 classes (LeCun, Cortes, Burges)",
		Page:     "http://yann.lecun.com/exdb/mnist/",
		Files:    files,
		MaxBytes: 100 * megabyte,
	}
	for _, f := range files {
		set.Downloads = append(set.Downloads, Download{
			Name:   f.Path,
			SHA256: f.SHA256,
			// The authors' server often refuses; PyTorch's mirror has the same files.
			URLs: []string{set.Page + f.Path, "https://ossci-datasets.s3.amazonaws.com/mnist/" + f.Path},
		})
	}
	return set
}

const cifarPage = "https://www.cs.toronto.edu/~kriz/cifar.html"

func cifar10() Set {
	return Set{
		Name:    "cifar10",
		Summary: "photographs, 32×32 colour, 50000 + 10000 images, 10 classes (Krizhevsky 2009)",
		Page:    cifarPage,
		Downloads: []Download{{
			Name:   "cifar-10-binary.tar.gz",
			URLs:   []string{"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"},
			SHA256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
		}},
		Files: []File{
			{"data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"},
			{"data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"},
			{"data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"},
			{"data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"},
			{"data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"},
			{"test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"},
			{"batches.meta.txt", "558e74b5e208382e186da55784b4bac2cd52e558448e1b5800990fdb28ed8033"},
		},
		MaxBytes: 400 * megabyte,
	}
}

func cifar100() Set {
	return Set{
		Name:    "cifar100",
		Summary: "photographs, 32×32 colour, 50000 + 10000 images, 100 classes (Krizhevsky 2009)",
		Page:    cifarPage,
		Downloads: []Download{{
			Name:   "cifar-100-binary.tar.gz",
			URLs:   []string{"https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"},
			SHA256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
		}},
		Files: []File{
			{"train.bin", "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"},
			{"test.bin", "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"},
			{"fine_label_names.txt", ""},
			{"coarse_label_names.txt", ""},
		},
		MaxBytes: 400 * megabyte,
	}
}

func tsrd() Set {
	const place = "http://www.nlpr.ia.ac.cn/pal/trafficdata/"
	return Set{
		Name:    "tsrd",
		Summary: "Chinese traffic signs, colour, 4170 + 1994 images of many sizes, 58 classes (CASIA, NSFC 61271306)",
		Page:    place + "recognition.html",
		Downloads: []Download{
			{Name: "tsrd-train.zip", URLs: []string{place + "tsrd-train.zip"}},
			{Name: "TSRD-Train Annotation.zip", URLs: []string{place + "TSRD-Train%20Annotation.zip"}},
			{Name: "TSRD-Test.zip", URLs: []string{place + "TSRD-Test.zip"}},
			{Name: "TSRD-Test Annotation.zip", URLs: []string{place + "TSRD-Test%20Annotation.zip"}},
		},
		Files: []File{
			{"tsrd-train/", "0341f5379394a0fa843c4783003624c2bbb97f407c7d8b787f20546a66863f00"},
			{"TsignRecgTrain4170Annotation.txt", "9a0f5f39116a6563cad21ac664ff994da18bcf2e2b8d31503f4b842083a1cf80"},
			{"TSRD-Test/", "71180bc9df35db89ad3dbcad44e1ee95e43bef9a6b4bbe57d3b7e501d241a926"},
			{"TsignRecgTest1994Annotation.txt", "607bd84d09b30c81330536341ec6a7d8eae8ccc4c6bde569aabea8a72ecbaea9"},
		},
		MaxBytes: 500 * megabyte,
	}
}
