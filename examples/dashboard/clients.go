package main

import (
	"io"
	"log"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// startClients starts the clients.
func startClients(chat, archive string) {
	for range 3 {
		go again(chat, echo, talk) // stays
	}
	go again(chat, echo, func(p *livenesstest.Peer) { // comes and goes
		say(p)
		time.Sleep(3 * time.Second)
	})
	go again(chat, flood, func(*livenesstest.Peer) { time.Sleep(time.Minute) }) // stops reading
	go again(chat, echo, vanish)
	go again(archive, echo, func(p *livenesstest.Peer) { // half-closes
		p.CloseWrite()
		io.Copy(io.Discard, p)
	})
	go func() { // resets a connection that the server forgets to close
		if peer := connect(chat, forget); peer != nil {
			time.Sleep(time.Second)
			peer.Reset()
		}
	}()
}

// again lets a client live over and over.
func again(address string, request byte, life func(*livenesstest.Peer)) {
	for {
		if peer := connect(address, request); peer != nil {
			life(peer)
			peer.Close()
		}
		time.Sleep(2 * time.Second)
	}
}

func connect(address string, request byte) *livenesstest.Peer {
	peer, err := livenesstest.Dial("tcp", address)
	if err != nil {
		log.Print(err)
		return nil
	}
	if _, err := peer.Write([]byte{request}); err != nil {
		log.Print(err)
	}
	return peer
}

// talk goes on until the connection ends.
func talk(peer *livenesstest.Peer) {
	peer.Drain()
	for say(peer) == nil {
		time.Sleep(time.Second)
	}
}

func say(peer *livenesstest.Peer) error {
	_, err := io.WriteString(peer, "hello\n")
	return err
}

// vanish hears nothing more from the server, which hears nothing from it.
func vanish(peer *livenesstest.Peer) {
	say(peer)
	time.Sleep(2 * time.Second)
	if _, err := livenesstest.Cut(peer); err != nil {
		log.Printf("no client vanishes: %v", err)
	}
	time.Sleep(30 * time.Second)
}
