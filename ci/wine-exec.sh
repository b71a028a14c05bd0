#!/bin/sh
# go test -exec program: runs a Windows program under the Wine in the folder WINE_ROOT. Needs root.
# Inside, /tmp and the folder of the module lie at the same paths as outside. Every call binds the same folders: the wineserver that
# the first call starts opens files for the later ones.
cwd=$(pwd -P) mod=$(pwd -P)
while [ "$mod" != / ] && [ ! -e "$mod/go.mod" ]; do mod=$(dirname "$mod"); done
[ "$mod" != / ] || mod=/tmp
export cwd mod
exec unshare -m sh -c '
for d in /tmp "$mod"; do mkdir -p "$WINE_ROOT$d" && mount --bind "$d" "$WINE_ROOT$d" || exit 97; done
mount --rbind /proc "$WINE_ROOT/proc" && mount --rbind /dev "$WINE_ROOT/dev" || exit 97
export HOME=/root XDG_RUNTIME_DIR=/root WINEPREFIX=/root/prefix WINEARCH=win64 WINEDEBUG="${WINEDEBUG--all}"
export WINESERVER=/usr/lib/wine/wineserver64 WINEDLLOVERRIDES="mscoree,mshtml=;winewayland.drv,winex11.drv="
# A cold start leaves service processes that hold our stdout, and go test waits for them: this starts them beforehand.
unshare --root="$WINE_ROOT" --wd=/ /usr/lib/wine/wine64 hostname >/dev/null 2>&1 </dev/null
exec unshare --root="$WINE_ROOT" --wd="$cwd" /usr/lib/wine/wine64 "$@"
' sh "$@"
