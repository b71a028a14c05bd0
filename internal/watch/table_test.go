package watch

import (
	"math/rand/v2"
	"testing"
)

// TestTableAgreesWithMap by a random sequence of add, join and remove: an id is used once, also
// after the table was empty; a descriptor leads to the tokens that were added with it; the chunks
// have every token once; and an empty table keeps one chunk.
func TestTableAgreesWithMap(t *testing.T) {
	var b table
	const none = ^uintptr(0)
	fds := make(map[*Token]uintptr) // none for those that joined
	var gone, all []*Token
	ids := make(map[uint64]bool)
	for n := range 20_000 {
		fills := n%5000 < 2000 // then it gets empty
		if len(all) > 0 && (!fills || rand.IntN(4) == 0) {
			i := rand.IntN(len(all))
			tok := all[i]
			all = append(all[:i], all[i+1:]...)
			delete(fds, tok)
			gone = append(gone, tok)
			if !b.remove(tok) {
				t.Fatal("a token was not removed")
			}
		} else if fills {
			tok := &newFake().Token
			fd := uintptr(rand.IntN(300) * 4)
			if rand.IntN(4) == 0 {
				fd = none
				b.join(tok)
			} else {
				b.add(tok, fd)
			}
			checkOthers(t, &b, tok, fd, fds)
			if ids[tok.id] || tok.id == 0 {
				t.Fatalf("id %#x was used before", tok.id)
			}
			ids[tok.id] = true
			fds[tok] = fd
			all = append(all, tok)
		}
		if len(gone) > 0 {
			if tok := gone[rand.IntN(len(gone))]; b.find(tok.id) != nil || b.remove(tok) {
				t.Fatalf("id %#x is still known", tok.id)
			}
		}
		if len(all) > 0 {
			if tok := all[rand.IntN(len(all))]; b.find(tok.id) != tok {
				t.Fatalf("id %#x is not known", tok.id)
			}
		}
		if b.count != len(all) || len(all) == 0 && (len(b.chunks) > 1 || len(b.heads) > 2*chunkSlots) {
			t.Fatalf("%d of %d clients, %d chunks and %d heads are left", b.count, len(all), len(b.chunks), len(b.heads))
		}
		if n%100 == 0 {
			checkChunks(t, &b, fds)
		}
	}
}

// checkOthers fails unless the descriptor of tok leads to those that have the same.
func checkOthers(t *testing.T, b *table, tok *Token, fd uintptr, fds map[*Token]uintptr) {
	t.Helper()
	if !tok.added {
		return
	}
	others := 0
	for _, other := range fds {
		if other == fd {
			others++
		}
	}
	if got := len(b.others(tok, fd)); got != others {
		t.Fatalf("%d others have descriptor %d, want %d", got, fd, others)
	}
}

// checkChunks fails unless the chunks have every client once.
func checkChunks(t *testing.T, b *table, fds map[*Token]uintptr) {
	t.Helper()
	seen := make(map[Client]int)
	for i, more := 0, true; more; i++ {
		var batch []Client
		batch, more = b.chunk(i, nil)
		for _, c := range batch {
			seen[c]++
		}
	}
	for tok := range fds {
		if seen[tok.client] != 1 {
			t.Fatalf("the chunks have a client %d times", seen[tok.client])
		}
	}
	if len(seen) != len(fds) {
		t.Fatalf("the chunks have %d clients, want %d", len(seen), len(fds))
	}
}
