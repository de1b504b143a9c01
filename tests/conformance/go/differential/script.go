package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A step is one line of the script: a name, the clauses of docs/CONTRACT.md that it holds, and one thing to ask of a server.
type step struct {
	name    string
	clauses []string
	line    int
	verb    string
	args    string
}

// Upper bounds of what a script may ask for, so that a slip of the pen cannot fill a disk.
const (
	stepsMax  = 2000
	repeatMax = 4 << 20
)

var header = regexp.MustCompile(`^([a-z0-9-]+)((?:\s+\[[A-Z]+-[0-9]+\])*)\s+(\S+)\s*(.*)$`)

// readScript parses `name [CLAUSE]... verb args`; a line that begins with a blank continues the one before it, and a line
// `include NAME` stands for the steps of the script of that name in the same folder, which itself includes nothing.
func readScript(path string) ([]step, error) {
	var steps []step
	err := eachLine(path, func(number int, text string) error {
		if name, ok := strings.CutPrefix(text, "include "); ok {
			other := filepath.Join(filepath.Dir(path), strings.TrimSpace(name)+".script")
			return eachLine(other, func(number int, text string) error { return add(&steps, number, text) })
		}
		return add(&steps, number, text)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	seen := map[string]bool{}
	for _, s := range steps {
		if seen[s.name] {
			return nil, fmt.Errorf("%s: %s stands there twice", path, s.name)
		}
		seen[s.name] = true
	}
	if len(steps) > stepsMax {
		return nil, fmt.Errorf("%s: more than %d steps", path, stepsMax)
	}
	return steps, nil
}

func eachLine(path string, visit func(number int, text string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for number := 1; scanner.Scan(); number++ {
		text := scanner.Text()
		if strings.TrimSpace(text) == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if err := visit(number, text); err != nil {
			return err
		}
	}
	return scanner.Err()
}

func add(steps *[]step, number int, text string) error {
	if text[0] == ' ' {
		if len(*steps) == 0 {
			return fmt.Errorf("line %d continues nothing", number)
		}
		last := &(*steps)[len(*steps)-1]
		last.args += " " + strings.TrimSpace(text)
		return nil
	}
	match := header.FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("line %d is not `name [CLAUSE]... verb args`", number)
	}
	clauses := strings.FieldsFunc(match[2], func(r rune) bool { return strings.ContainsRune(" []", r) })
	*steps = append(*steps, step{match[1], clauses, number, match[3], match[4]})
	return nil
}

var (
	repeatOne  = regexp.MustCompile(`\{\{(.)\*(\d+)\}\}`)
	repeatMany = regexp.MustCompile(`<<(\d+)\|(.*?)>>`)
)

// expand writes out `{{x*9}}` (one character nine times) and `<<9|text %d>>` (the text with 0 to 8 in the place of %d).
func expand(text string) string {
	text = repeatMany.ReplaceAllStringFunc(text, func(whole string) string {
		part := repeatMany.FindStringSubmatch(whole)
		var out strings.Builder
		for i := range count(part[1]) {
			out.WriteString(strings.ReplaceAll(part[2], "%d", strconv.Itoa(i)))
			out.WriteByte(' ')
		}
		return out.String()
	})
	return repeatOne.ReplaceAllStringFunc(text, func(whole string) string {
		part := repeatOne.FindStringSubmatch(whole)
		return strings.Repeat(part[1], count(part[2]))
	})
}

func count(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil || n > repeatMax {
		panic("repeat count " + digits)
	}
	return n
}

// words splits like a shell with Go's double-quoted strings and nothing else.
func words(text string) ([]string, error) {
	var out []string
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" {
			return out, nil
		}
		if text[0] == '"' {
			prefix, err := strconv.QuotedPrefix(text)
			if err != nil {
				return nil, fmt.Errorf("quoting in %q: %w", text, err)
			}
			word, _ := strconv.Unquote(prefix)
			out = append(out, word)
			text = text[len(prefix):]
			continue
		}
		end := strings.IndexAny(text, " \t")
		if end < 0 {
			end = len(text)
		}
		out = append(out, text[:end])
		text = text[end:]
	}
}
