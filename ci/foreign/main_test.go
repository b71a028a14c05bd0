package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	bare := parse([]byte(`{"Action":"run","Package":"a/b","Test":"A"}
{"Action":"run","Package":"a/b","Test":"A/1"}
{"Action":"pass","Package":"a/b","Test":"A/1"}
{"Action":"pass","Package":"a/b","Test":"A"}
{"Action":"run","Package":"a/b","Test":"B"}
{"Action":"skip","Package":"a/b","Test":"B"}
{"Action":"run","Package":"a/b","Test":"C"}
no JSON
{"Action":"fail","Package":"a/b"}`)) // C never ended
	if got, want := bare.String(), "2 passed, 1 failed, 1 skipped"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	other := results{"b A": "fail", "b A/1": "fail", "b C": "fail"} // B is missing
	if got, want := other.worseThan(bare), []string{"b A/1", "b B"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := bare.worseThan(bare); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestReadKnown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known.txt")
	os.WriteFile(file, []byte("# text\n\nx/net, wrapped: http A/1: it asks for a *net.TCPConn: by type\n"), 0o600)
	known, err := readKnown(file)
	if err != nil || len(known) != 1 || known["x/net wrapped http A/1"] != "it asks for a *net.TCPConn: by type" {
		t.Errorf("got %q, %v", known, err)
	}
	os.WriteFile(file, []byte("x/net, wrapped\n"), 0o600)
	if _, err := readKnown(file); err == nil {
		t.Error("a line without a reason was accepted")
	}
}
