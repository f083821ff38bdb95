package nn

import (
	"fmt"
	"slices"
	"strings"

	"cordon/internal/torch"
)

// arch describes one network of the family.
type arch struct {
	blocks     [4]int // per stage
	bottleneck bool   // 1×1, 3×3, 1×1 blocks instead of two 3×3
	preact     bool   // batch norm and ReLU before the convolutions
}

var archs = map[string]arch{
	"resnet18":        {blocks: [4]int{2, 2, 2, 2}},
	"resnet34":        {blocks: [4]int{3, 4, 6, 3}},
	"resnet50":        {blocks: [4]int{3, 4, 6, 3}, bottleneck: true},
	"preact_resnet18": {blocks: [4]int{2, 2, 2, 2}, preact: true},
}

// Archs lists the networks that New can build.
func Archs() []string {
	names := make([]string, 0, len(archs))
	for name := range archs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

type block interface {
	forward(p *pass, x torch.Tensor) torch.Tensor
}

// resnet is He et al. 2016a (basic and bottleneck blocks) and, with preact,
// He et al. 2016b: there the stem has no batch norm and one follows the last
// block.
type resnet struct {
	conv1  *conv
	bn1    *norm // after the stem, or before the head with preact
	pool   bool
	preact bool
	blocks []block
	fc     *linear
}

func build(b *builder, cfg Config) (*resnet, error) {
	a, ok := archs[cfg.Arch]
	if !ok {
		return nil, fmt.Errorf("unknown network %q: want one of %s", cfg.Arch, strings.Join(Archs(), ", "))
	}
	if cfg.Classes < 2 {
		return nil, fmt.Errorf("a classifier needs at least 2 classes, not %d", cfg.Classes)
	}
	r := &resnet{preact: a.preact}
	switch cfg.Stem {
	case StemImageNet:
		r.conv1, r.pool = b.conv("conv1", Channels, 64, 7, 2), true
	case StemSmall:
		r.conv1 = b.conv("conv1", Channels, 64, 3, 1)
	default:
		return nil, fmt.Errorf("unknown stem %q: want %s or %s", cfg.Stem, StemImageNet, StemSmall)
	}
	if !a.preact {
		r.bn1 = b.norm("bn1", 64, 0)
	}
	in := 64
	for stage, count := range a.blocks {
		b.stage = stage + 1
		width, stride := 64<<stage, 1
		if stage > 0 {
			stride = 2
		}
		for i := range count {
			name := fmt.Sprintf("layer%d.%d", stage+1, i)
			var blk block
			blk, in = a.block(b, name, in, width, stride)
			r.blocks = append(r.blocks, blk)
			stride = 1
		}
	}
	b.stage = 5
	if a.preact {
		r.bn1 = b.norm("bn1", in, b.layer)
	}
	r.fc = b.linear("fc", in, cfg.Classes)
	return r, nil
}

// block makes one residual block and returns it with its output channels.
func (a arch) block(b *builder, name string, in, width, stride int) (block, int) {
	switch {
	case a.bottleneck:
		return newBottleneck(b, name, in, width, stride), 4 * width
	case a.preact:
		return newPreact(b, name, in, width, stride), width
	}
	return newBasic(b, name, in, width, stride), width
}

func (r *resnet) forward(p *pass, x torch.Tensor) torch.Tensor {
	x = p.scoped(func(p *pass) torch.Tensor { return r.stem(p, x) })
	for _, b := range r.blocks {
		// The input goes with the block: the backward pass frees it when it has been there,
		// an evaluation writes over it.
		in := x
		x = p.scoped(func(inner *pass) torch.Tensor { return b.forward(inner, p.Keep(in, inner.Scope)) })
	}
	if r.preact {
		x = r.bn1.forward(p, x, torch.Tensor{}, true)
	}
	return r.fc.forward(p, p.GlobalAvgPool(x))
}

func (r *resnet) stem(p *pass, x torch.Tensor) torch.Tensor {
	switch {
	case r.preact && r.pool:
		return p.MaxPool2d(r.conv1.forward(p, x), 3, 2, 1)
	case r.preact:
		return r.conv1.forward(p, x)
	case r.pool:
		return p.pooled(r.conv1, r.bn1, x)
	}
	return p.normalized(r.conv1, r.bn1, x, torch.Tensor{}, true)
}

// projection is the shortcut of a block whose input has another shape than its
// output: a strided 1×1 convolution and, without preact, a batch norm.
type projection struct {
	conv *conv
	norm *norm
}

// newProjection belongs to the last convolution made: a block's shortcut is
// frozen with the end of the block, so that what is frozen is a prefix.
func newProjection(b *builder, name string, in, out, stride int) *projection {
	if in == out && stride == 1 {
		return nil
	}
	layer := b.layer - 1
	return &projection{
		conv: b.shortcut(name+".downsample.0", in, out, 1, stride, layer),
		norm: b.norm(name+".downsample.1", out, layer),
	}
}

func (s *projection) forward(p *pass, x torch.Tensor) torch.Tensor {
	if s == nil {
		return x
	}
	return p.normalized(s.conv, s.norm, x, torch.Tensor{}, false)
}

// plain is a block of convolutions, each followed by batch norm, ReLU between
// them, and the shortcut added before the last ReLU: torchvision's BasicBlock
// (two 3×3) and Bottleneck (1×1, 3×3 with the stride, 1×1).
type plain struct {
	convs    []*conv
	norms    []*norm
	shortcut *projection
}

func newBasic(b *builder, name string, in, width, stride int) *plain {
	k := &plain{}
	k.add(b, name, in, width, 3, stride)
	k.add(b, name, width, width, 3, 1)
	k.shortcut = newProjection(b, name, in, width, stride)
	return k
}

func newBottleneck(b *builder, name string, in, width, stride int) *plain {
	k := &plain{}
	k.add(b, name, in, width, 1, 1)
	k.add(b, name, width, width, 3, stride)
	k.add(b, name, width, 4*width, 1, 1)
	k.shortcut = newProjection(b, name, in, 4*width, stride)
	return k
}

func (k *plain) add(b *builder, name string, in, out, kernel, stride int) {
	i, layer := len(k.convs)+1, b.layer
	k.convs = append(k.convs, b.conv(fmt.Sprintf("%s.conv%d", name, i), in, out, kernel, stride))
	k.norms = append(k.norms, b.norm(fmt.Sprintf("%s.bn%d", name, i), out, layer))
}

func (k *plain) forward(p *pass, x torch.Tensor) torch.Tensor {
	y, around := p.forked(k.convs[0], k.norms[0], x)
	last := len(k.convs) - 1
	for i := 1; i < last; i++ {
		y = p.normalized(k.convs[i], k.norms[i], y, torch.Tensor{}, true)
	}
	residual := k.shortcut.forward(p, around)
	return p.normalized(k.convs[last], k.norms[last], y, residual, true)
}

// preact is the basic block of He et al. 2016b: batch norm and ReLU come before
// each convolution, and the projection is a bare convolution of the activated
// input.
type preact struct {
	bn1, bn2     *norm
	conv1, conv2 *conv
	shortcut     *conv
}

func newPreact(b *builder, name string, in, width, stride int) *preact {
	k := &preact{}
	k.bn1 = b.norm(name+".bn1", in, b.layer)
	k.conv1 = b.conv(name+".conv1", in, width, 3, stride)
	k.bn2 = b.norm(name+".bn2", width, b.layer)
	k.conv2 = b.conv(name+".conv2", width, width, 3, 1)
	if in != width || stride != 1 {
		k.shortcut = b.shortcut(name+".downsample.0", in, width, 1, stride, b.layer-1)
	}
	return k
}

func (k *preact) forward(p *pass, x torch.Tensor) torch.Tensor {
	y := k.bn1.forward(p, x, torch.Tensor{}, true)
	residual := x
	if k.shortcut != nil {
		residual = k.shortcut.forward(p, y)
	}
	y = k.conv1.forward(p, y)
	y = k.bn2.forward(p, y, torch.Tensor{}, true)
	return p.Add(k.conv2.forward(p, y), residual)
}
