package watch

// A table has all tokens of the process. It leads from an id to a token, and from a
// descriptor to the tokens that were added with it. Both take the same time however many
// there are.
//
// An id is the number of a slot in its low 32 bits and a serial number in its high 32
// bits. Each token gets a new one, so that a late event finds no token.
type table struct {
	chunks []*chunk // a slot stays where it is, so that growing copies no slots
	top    uint32   // the highest slot that was ever used; slot 0 is not
	free   uint32   // the first of the list of slots without a token; 0 if there is none
	heads  []uint32 // a hash table by descriptor: the first slot of each list, of two as a rule; a power of two long
	count  int      // slots with a token
	serial uint32   // the last one given
}

// chunkSlots is a power of two. An empty table keeps one chunk, so that a server with one
// connection now and then does not allocate it for each.
const chunkSlots = 64

type chunk [chunkSlots]slot

// A slot has a token or is free.
type slot struct {
	token *Token
	fd    uint32 // only to be compared, for it may have been closed and used again
	next  uint32 // in the list of the hash table, or of the free slots
}

func (b *table) slot(i uint32) *slot { return &b.chunks[i/chunkSlots][i%chunkSlots] }

// join gives t a slot and an id.
func (b *table) join(t *Token) {
	i := b.free
	if i != 0 {
		b.free = b.slot(i).next
	} else {
		b.top++
		if i = b.top; int(i/chunkSlots) == len(b.chunks) {
			b.chunks = append(b.chunks, new(chunk))
		}
	}
	*b.slot(i) = slot{token: t}
	b.count++
	b.serial++
	t.id = uint64(b.serial)<<32 | uint64(i)
}

// add is join for a token with a descriptor.
func (b *table) add(t *Token, fd uintptr) {
	if b.count >= 2*len(b.heads) {
		b.grow()
	}
	b.join(t)
	t.added = true
	b.link(uint32(t.id), uint32(fd))
}

// link puts the slot i into the list of fd. A handle of Windows has 32 significant bits, too.
func (b *table) link(i, fd uint32) {
	head := b.head(fd)
	s := b.slot(i)
	s.fd, s.next, *head = fd, *head, i
}

// grow doubles the hash table.
func (b *table) grow() {
	b.heads = make([]uint32, max(8, 2*len(b.heads)))
	for i := uint32(1); i <= b.top; i++ {
		if s := b.slot(i); s.token != nil && s.token.added {
			b.link(i, s.fd)
		}
	}
}

func (b *table) head(fd uint32) *uint32 {
	const golden = 0x9E3779B9 // 2^32 divided by the golden ratio: handles on Windows are multiples of four
	return &b.heads[(fd*golden>>8)&uint32(len(b.heads)-1)]
}

// find returns the token with that id, or nil.
func (b *table) find(id uint64) *Token {
	i := uint32(id)
	if i == 0 || i > b.top {
		return nil
	}
	if t := b.slot(i).token; t != nil && t.id == id {
		return t
	}
	return nil
}

// others returns the clients of the tokens other than t that were added with fd.
func (b *table) others(t *Token, fd uintptr) (clients []Client) {
	for i := *b.head(uint32(fd)); i != 0; i = b.slot(i).next {
		if s := b.slot(i); s.fd == uint32(fd) && s.token != t {
			clients = append(clients, s.token.client)
		}
	}
	return clients
}

// remove forgets t. It reports false if t is not in the table.
func (b *table) remove(t *Token) bool {
	if b.find(t.id) != t {
		return false
	}
	i := uint32(t.id)
	s := b.slot(i)
	if t.added {
		at := b.head(s.fd)
		for *at != i {
			at = &b.slot(*at).next
		}
		*at = s.next
	}
	*s = slot{next: b.free}
	b.free = i
	b.count--
	if b.count == 0 && len(b.chunks) > 1 {
		*b = table{serial: b.serial}
	}
	return true
}

// chunk appends the clients of the n-th chunk to clients. It reports false behind the last
// one.
func (b *table) chunk(n int, clients []Client) ([]Client, bool) {
	if n >= len(b.chunks) {
		return clients, false
	}
	for i := range b.chunks[n] {
		if t := b.chunks[n][i].token; t != nil {
			clients = append(clients, t.client)
		}
	}
	return clients, true
}
