package wire

// What a gateway takes of a head: RFC 9110 and RFC 3986, as Nylon's own hosts check it. Both sides check, since a
// reply with one mutation that is not legal is refused as a whole.

// IsToken: a method, or a header's name.
func IsToken(text string) bool {
	for i := range len(text) {
		if !tokens[text[i]] {
			return false
		}
	}
	return text != ""
}

// IsValue: a header's value. Any bytes but control characters; a tab is allowed.
func IsValue(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// IsPath: percent-encoded, with a slash at its start.
func IsPath(text string) bool { return text != "" && text[0] == '/' && isTarget(text, false) }

// IsQuery: percent-encoded, or empty.
func IsQuery(text string) bool { return isTarget(text, true) }

func isTarget(text string, questionMark bool) bool {
	for i := range len(text) {
		if c := text[i]; !targets[c] && !(c == '?' && questionMark) {
			return false
		}
	}
	return len(text) <= MaxTarget
}

var tokens, targets = allowed("!#$%&'*+-.^_`|~"), allowed("!$%&'()*+,-./:;=@[]_~")

// allowed is letters, digits and the characters of marks.
func allowed(marks string) (set [256]bool) {
	for c := '0'; c <= '9'; c++ {
		set[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		set[c], set[c-'a'+'A'] = true, true
	}
	for i := range len(marks) {
		set[marks[i]] = true
	}
	return set
}
