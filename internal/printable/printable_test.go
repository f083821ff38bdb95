package printable

import "testing"

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, line, text string }{
		{"", "", ""},
		{"M′ ist groß, 日本", "M′ ist groß, 日本", "M′ ist groß, 日本"},
		{"a\x1b[2J\x00b", "a�[2J�b", "a�[2J�b"},
		{"gnp.\u202egpj\u2066", "gnp.�gpj�", "gnp.�gpj�"},
		{"\xff", "�", "�"},
		{"a\n\tb\r", "a��b�", "a\n\tb�"},
	} {
		if got := Line(c.in); got != c.line {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.line)
		}
		if got := Text(c.in); got != c.text {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.text)
		}
	}
}
