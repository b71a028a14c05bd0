package keepalive

// systemOptions: a connection can have keep-alive on or off. When it probes is one
// setting for the whole system (net.inet.tcp.keepidle), of two hours as a rule.
func systemOptions() options { return options{} }
