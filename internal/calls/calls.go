// Package calls has the list of what is to be called at the end of a connection.
package calls

// A Call is one registration, in a list of its connection.
type Call struct {
	F          func(error)
	Kind       Kind
	Next       *Call // in what TakeAll returns
	prev, next *Call
	listed     bool
}

// A Kind says how a call is made.
type Kind uint8

const (
	Callback Kind = iota // F is called in a goroutine of its own
	Canceler             // F cancels a context
)

// A List is a doubly linked list, so that adding and removing take the same time however
// many calls there are. Its user guards it.
type List struct{ first *Call }

// Empty reports whether the list has no call.
func (l *List) Empty() bool { return l.first == nil }

// Add puts c into the list.
func (l *List) Add(c *Call) {
	c.next, c.listed = l.first, true
	if l.first != nil {
		l.first.prev = c
	}
	l.first = c
}

// Remove reports whether c was in the list.
func (l *List) Remove(c *Call) bool {
	if !c.listed {
		return false
	}
	if c.prev == nil {
		l.first = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next, c.listed = nil, nil, false
	return true
}

// TakeAll empties the list into two that are linked by Next.
func (l *List) TakeAll() (cancelers, callbacks *Call) {
	for c := l.first; c != nil; c = c.next {
		c.listed = false
		if c.Kind == Canceler {
			c.Next, cancelers = cancelers, c
		} else {
			c.Next, callbacks = callbacks, c
		}
	}
	l.first = nil
	return cancelers, callbacks
}
