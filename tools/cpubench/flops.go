package main

// conv is a convolution of square images: in and out channels, kernel k.
type conv struct{ in, out, k, stride, size int }

// outSize is the height of its output.
func (c conv) outSize() int { return (c.size+2*(c.k/2)-c.k)/c.stride + 1 }

// flops counts two for each multiplication of a weight with a pixel, for one
// image. Taps in the padding do not count: at 1×1 pixels a 3×3 kernel has one.
func (c conv) flops() float64 {
	taps := 0
	for o := range c.outSize() {
		for i := range c.k {
			if at := o*c.stride - c.k/2 + i; at >= 0 && at < c.size {
				taps++
			}
		}
	}
	return 2 * float64(c.in) * float64(c.out) * float64(taps) * float64(taps)
}

// convs lists a network's convolutions, the stem first: internal/nn's networks.
func convs(arch, stem string, size int) []conv {
	first := conv{3, 64, 3, 1, size}
	if stem == "imagenet" {
		first = conv{3, 64, 7, 2, size}
	}
	all, in := []conv{first}, 64
	size = first.outSize()
	if stem == "imagenet" {
		size = (size + 1) / 2 // the max pool
	}
	blocks, expansion := [4]int{2, 2, 2, 2}, 1
	if arch == "resnet50" {
		blocks, expansion = [4]int{3, 4, 6, 3}, 4
	}
	for stage, count := range blocks {
		width := 64 << stage
		for i := range count {
			stride := 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			block := blockConvs(in, width, expansion, stride, size)
			all = append(all, block...)
			size, in = block[len(block)-1].outSize(), width*expansion
		}
	}
	return all
}

// blockConvs lists a residual block's convolutions, the last of the main path last.
func blockConvs(in, width, expansion, stride, size int) []conv {
	var all []conv
	if stride != 1 || in != width*expansion {
		all = append(all, conv{in, width * expansion, 1, stride, size})
	}
	after := (size-1)/stride + 1
	if expansion == 1 {
		return append(all, conv{in, width, 3, stride, size}, conv{width, width, 3, 1, after})
	}
	return append(all, conv{in, width, 1, 1, size}, conv{width, width, 3, stride, size}, conv{width, width * expansion, 1, 1, after})
}

// products returns the floating point operations of a workload's matrix
// products for one image: forward, and in training the gradients of the weights
// and of the inputs, the images excepted. The small final layer is left out.
func (w workload) products() float64 {
	sum := 0.0
	for i, c := range convs(w.arch, w.stem, w.size) {
		times := 3.0
		if i == 0 {
			times = 2
		}
		if w.benchmark == "Evaluate" {
			times = 1
		}
		sum += times * c.flops()
	}
	return sum
}
