package native_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The plugin of testdata/plugin as a shared library, and testdata/host.c, which loads it: the boundary as it is in a
// gateway. Built once.
var built = sync.OnceValues(func() (directory string, err error) {
	directory, err = os.MkdirTemp("", "nylon-native-")
	if err != nil {
		return "", err
	}
	for _, command := range []*exec.Cmd{
		exec.Command("go", "build", "-buildmode=c-shared", "-o", filepath.Join(directory, "plugin.so"), "./testdata/plugin"),
		exec.Command("go", "build", "-o", filepath.Join(directory, "program"), "./testdata/program"),
		exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-O2", "-o", filepath.Join(directory, "host"), "testdata/host.c",
			"-ldl", "-lpthread"),
	} {
		if output, err := command.CombinedOutput(); err != nil {
			return directory, &buildError{command.String(), string(output)}
		}
	}
	return directory, nil
})

type buildError struct{ command, output string }

func (e *buildError) Error() string { return e.command + " failed:\n" + e.output }

func TestMain(m *testing.M) {
	code := m.Run()
	if directory, _ := built(); directory != "" {
		os.RemoveAll(directory)
	}
	os.Exit(code)
}

// host takes an entry's session through phases, and gives what the plugin called back, line by line.
func host(t *testing.T, config string, arguments ...string) []string {
	t.Helper()
	directory, err := built()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(directory, "host"),
		append([]string{filepath.Join(directory, "plugin.so")}, arguments...)...)
	command.Env = append(os.Environ(), "PLUGIN_CONFIG="+config)
	output, err := command.Output()
	if err != nil {
		t.Fatalf("the host failed: %v\n%s", err, output)
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if !strings.HasPrefix(lines[0], "version 2, entries ") {
		t.Fatalf("no announcement: %s", output)
	}
	return lines
}

func expect(t *testing.T, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestEntriesAreAnnounced(t *testing.T) {
	announced := host(t, "", "values", "4")[0]
	for _, entry := range []string{
		`{"name":"values","phases":["request_filter","response_body_filter"],"body":true,"stream":false}`,
		`{"name":"panics","phases":["request_filter","response_filter"],"body":false,"stream":false}`,
	} {
		if !strings.Contains(announced, entry) {
			t.Errorf("%s is not in %s", entry, announced)
		}
	}
}

func TestCallsReadAndChangeAndDecideInOrder(t *testing.T) {
	const header = `\x0c\x00\x00\x00\x08\x00\x0c\x00\x08\x00\x04\x00\x08\x00\x00\x00\x08\x00\x00\x00\x14\x00\x00\x00` +
		`\x09\x00\x00\x00/path one\x00\x00\x00\x06\x00\x00\x00x-seen\x00\x00`
	expect(t, host(t, "{}", "values", "1", "2", "4")[1:], []string{
		"204", "201 x-a", "223 " + header, "221 /new", "201 missing", "205", `226 "" ""`, `102 \x01\xa2`, "101 x-b", "1",
		"1", "1", // phases that the entry has no handler for
		"shut down",
	})
}

func TestAnAnswerThatIsLargerThanTheRoomArrivesWhole(t *testing.T) {
	expect(t, host(t, "", "values", "3")[1:], []string{
		"107", "103 1048576 8f990ba0b577b51cf009ea049368c16bbda1b21e1b93be07a824758bb253c39b", "1", "shut down",
	})
}

func TestABodyThatComesLaterFromAnotherThreadIsWaitedFor(t *testing.T) {
	expect(t, host(t, "", "body", "1")[1:], []string{"200", "226 was: the request's body", "1", "shut down"})
}

func TestAnInlineHandlerFailsInsteadOfWaitingOnTheGatewaysThread(t *testing.T) {
	lines := host(t, "", "body-inline", "1")
	if len(lines) != 4 || !strings.HasPrefix(lines[2], "4 request_filter: panic: an inline handler must not wait") {
		t.Errorf("got %q", lines[1:])
	}
}

func TestAPanicIsAFailureWithItsStack(t *testing.T) {
	lines := host(t, "", "panics", "1", "2")
	for i, where := range []string{"request_filter: panic: boom", "response_filter: panic: boom inline"} {
		if line := lines[i+1]; !strings.HasPrefix(line, "4 "+where) || !strings.Contains(line, "main.go:") {
			t.Errorf("got %q", line)
		}
	}
}

func TestAnUnknownEntryIsNotOpened(t *testing.T) {
	expect(t, host(t, "", "nobody", "1")[1:], []string{"no such entry"})
}

func TestAPanicInInitializeLeavesNoEntries(t *testing.T) {
	expect(t, host(t, `{"refuse": true}`, "values", "1"), []string{"version 2, entries null", "no such entry"})
}

func TestInAProgramASocketIsShutDownAsEver(t *testing.T) {
	directory, err := built()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, filepath.Join(directory, "program")).CombinedOutput()
	if got := string(output); err != nil || got != "read 0 <nil>\n" {
		t.Errorf("%v: %s", err, got)
	}
}
