package tcpinfo

// Combine returns the evidence of an MPTCP connection from that of its subflows. unacked
// counts the bytes that were written and not acknowledged by MPTCP, -1 if that is not known.
// live is false if no subflow is left by which the peer could be heard.
//
// The peer was heard when any subflow heard it. Its acknowledgement is awaited by the
// subflow that has data in flight and retransmitted most often, because MPTCP sends the
// same data on another one meanwhile.
func Combine(subflows []Info, unacked int64) (all Info, live bool) {
	var waiting *Info
	all = Info{Sent: -1, Received: -1, PeerWindow: -1, OurWindow: -1}
	for n := range subflows {
		i := &subflows[n]
		if i.State != Open && i.State != CloseWait || !i.Full {
			continue
		}
		if !live {
			live = true
			all.SinceData, all.SinceAck, all.SinceSent, all.RTO = i.SinceData, i.SinceAck, i.SinceSent, i.RTO
		}
		all.State = Open // the FIN of a subflow is not that of the stream
		all.Full = true
		all.AllAcked = unacked == 0
		all.Unasked = all.Unasked || all.AllAcked && i.InFlight == 0 && i.Probes == 0
		all.SinceData = min(all.SinceData, i.SinceData)
		all.SinceAck = min(all.SinceAck, i.SinceAck)
		all.RTT = max(all.RTT, i.RTT)
		all.Recovering = all.Recovering || i.Recovering
		all.Probes = max(all.Probes, i.Probes)
		all.InFlight += i.InFlight
		all.Sacked += i.Sacked
		all.Unsent += i.Unsent
		all.Acked += i.Acked
		all.Delivered += i.Delivered
		all.PeerWindow = max(all.PeerWindow, i.PeerWindow)
		all.MSS = max(all.MSS, i.MSS)
		all.PeerMSS = max(all.PeerMSS, i.PeerMSS)
		if i.InFlight > 0 && (waiting == nil || i.Retransmits > waiting.Retransmits) || waiting == nil && i.Backoff > all.Backoff {
			all.RTO, all.SinceSent, all.Backoff, all.Retransmits = i.RTO, i.SinceSent, i.Backoff, i.Retransmits
			if i.InFlight > 0 {
				waiting = i
			}
		}
	}
	if all.InFlight == 0 {
		all.Unsent = max(all.Unsent, unacked) // what a lost subflow had is to be sent again
	}
	return all, live
}
