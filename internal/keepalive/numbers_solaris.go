//go:build !illumos

package keepalive

// systemOptions: the numbers of Solaris 11.4, the first to have these options. x/sys
// has those of illumos under the same names.
func systemOptions() options { return sunOptions(0x1d, 0x1e, 0x1f) }
