package watch

// A registry leads from an id to a token, and from a descriptor to the tokens that were
// added with it. Both take the same time however many there are.
//
// An id is the number of a slot in its low 32 bits and the generation of that slot in
// its high 32 bits. Each registration gets a new generation, so that a late event finds
// no token.
type registry struct {
	slots []slot   // slot 0 is not used
	free  uint32   // the first of the list of slots without a token; 0 if there is none
	heads []uint32 // a hash table by descriptor: the first slot of each list; a power of two long
	count int      // slots with a token
	top   uint32   // the highest generation given
}

// A slot has a token or is free.
type slot struct {
	token      *Token
	fd         uintptr // only to be compared, for it may have been closed and used again
	generation uint32
	next       uint32 // in the list of the hash table, or of the free slots
}

// keepSlots is how many slots an empty registry keeps, so that a server with one
// connection now and then does not allocate them for each.
const keepSlots = 64

// add registers t for fd and sets its id.
func (r *registry) add(t *Token, fd uintptr) {
	i := r.free
	if i == 0 {
		if len(r.slots) == 0 {
			r.slots = make([]slot, 1, 8)
		}
		if len(r.slots) > len(r.heads) {
			r.grow()
		}
		i = uint32(len(r.slots))
		r.slots = append(r.slots, slot{generation: r.top})
	} else {
		r.free = r.slots[i].next
	}
	s := &r.slots[i]
	s.token, s.fd = t, fd
	s.generation++
	r.top = max(r.top, s.generation)
	head := r.head(fd)
	s.next, *head = *head, i
	r.count++
	t.id = uint64(s.generation)<<32 | uint64(i)
}

// grow doubles the hash table.
func (r *registry) grow() {
	r.heads = make([]uint32, max(8, 2*len(r.heads)))
	for i := range r.slots {
		if s := &r.slots[i]; s.token != nil {
			head := r.head(s.fd)
			s.next, *head = *head, uint32(i)
		}
	}
}

func (r *registry) head(fd uintptr) *uint32 {
	const golden = 0x9E3779B9 // 2^32 divided by the golden ratio: handles on Windows are multiples of four
	return &r.heads[(uint32(fd)*golden>>8)&uint32(len(r.heads)-1)]
}

// find returns the token with that id, or nil.
func (r *registry) find(id uint64) *Token {
	i := uint32(id)
	if int(i) >= len(r.slots) || r.slots[i].generation != uint32(id>>32) {
		return nil
	}
	return r.slots[i].token
}

// others returns the clients of the tokens other than t that were added with fd.
func (r *registry) others(t *Token, fd uintptr) (clients []Client) {
	for i := *r.head(fd); i != 0; i = r.slots[i].next {
		if s := &r.slots[i]; s.fd == fd && s.token != t {
			clients = append(clients, s.token.client)
		}
	}
	return clients
}

// remove forgets t. It reports false if t is not registered.
func (r *registry) remove(t *Token) bool {
	if t.id == 0 || r.find(t.id) != t {
		return false
	}
	i := uint32(t.id)
	s := &r.slots[i]
	at := r.head(s.fd)
	for *at != i {
		at = &r.slots[*at].next
	}
	*at = s.next
	s.token, s.fd, s.next = nil, 0, r.free
	r.free = i
	r.count--
	if r.count == 0 && len(r.slots) > keepSlots {
		*r = registry{top: r.top}
	}
	return true
}
