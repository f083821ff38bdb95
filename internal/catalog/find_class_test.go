package catalog

import "testing"

// Where classes are named by numbers, a number is a name and never a place.
func TestFindClass(t *testing.T) {
	for _, c := range []struct {
		classes []string
		class   string
		want    int // -1: an error
	}{
		{[]string{"cat", "dog"}, "dog", 1},
		{[]string{"cat", "dog"}, "0", 0},
		{[]string{"cat", "dog"}, "2", -1},
		{[]string{"5", "7"}, "7", 1},
		{[]string{"5", "7"}, "0", -1},
		{[]string{"cat", "1"}, "0", 0},
		{[]string{"001", "003"}, "3", 1}, // TSRD's names
		{[]string{"001", "003"}, "0", -1},
		{[]string{"000", "001", "003", "other"}, "3", 2},
		{[]string{"01", "001"}, "1", -1}, // either
		{[]string{"01", "1"}, "1", 1},
		{[]string{"001", "003"}, "cat", -1},
	} {
		got, err := findClass(c.classes, c.class)
		if (err != nil) != (c.want < 0) || err == nil && got != c.want {
			t.Errorf("%v, %q: %d, %v", c.classes, c.class, got, err)
		}
	}
}
