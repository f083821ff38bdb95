// Package printable makes text from hostile files safe to show: names and labels
// may hold what steers a terminal or turns the writing direction.
package printable

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line replaces what is not a visible character or a space by U+FFFD: control
// characters, line breaks, marks that turn the writing direction, bytes that are
// not UTF-8.
func Line(s string) string { return replace(s, "") }

// Text is Line with line breaks and tabs kept.
func Text(s string) string { return replace(s, "\n\t") }

func replace(s, kept string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) || strings.ContainsRune(kept, c) {
			return c
		}
		return utf8.RuneError
	}, s)
}
