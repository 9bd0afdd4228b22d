#!/bin/sh
# Installs the packages in the Debian in $1, uses and removes them, and shows that nothing is left. Their files and the two packages
# of a stand-in for Xen are in /packages there.
set -eu
root=$1
list() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./var/lib/dpkg -o -path ./var/log -o -path ./packages \
        -o -path ./tmp \) -prune -o -print | sort)
}
in_it() { chroot "$root" "$@"; }
fail() { echo "FAILED: $1" >&2; exit 1; }
is() { [ "$(cat "$root/usr/lib/xen-4.17/boot/hvmloader")" = "$1" ] || fail "hvmloader is not $1"; }
ours() { cmp -s "$root/usr/share/firstlight/hvmloader" "$(readlink -f "$root/usr/share/firstlight/hvmloader")" &&
    [ "$(readlink "$root/usr/lib/xen-4.17/boot/hvmloader")" = /usr/share/firstlight/hvmloader ] || fail "hvmloader is not ours"; }

list >"$root/packages/before"
in_it dpkg -i /packages/firstlight-firmware.deb /packages/firstlight.deb
in_it firstlight --version
in_it firstlight doctor || true
in_it firstlight run --dry-run /usr/share/doc/firstlight/examples/bios.xml
in_it firstlight xl /usr/share/doc/firstlight/examples/bios.xml -o /tmp/xl
grep -q 'firmware_override = "/usr/share/firstlight/hvmloader"' "$root/tmp/xl/xl.cfg" || fail "no loader in xl.cfg"
in_it firstlight xl /usr/share/doc/firstlight/examples/hostboot.xml -o /tmp/pv
grep -q 'bootloader = "/usr/bin/firstlight-bootloader"' "$root/tmp/pv/xl.cfg" || fail "no bootloader in xl.cfg"
in_it firstlight-bootloader --help >/dev/null
in_it firstlight check /usr/share/doc/firstlight/examples/bios.xml >/dev/null && fail "nothing is lost"
for file in man/man1/firstlight.1.gz man/man1/firstlight-run.1.gz man/man8/firstlight-bootloader.8.gz bash-completion/completions/firstlight \
    zsh/vendor-completions/_firstlight fish/vendor_completions.d/firstlight.fish qemu/firmware/70-firstlight.json; do
    [ -s "$root/usr/share/$file" ] || fail "no $file"
done

in_it dpkg -i /packages/xen-1.deb
is stock-1
in_it firstlight divert
ours
in_it firstlight divert
ours
# An update of Xen's own goes beside ours.
in_it dpkg -i /packages/xen-2.deb
ours
in_it firstlight divert --undo
is stock-2
in_it firstlight divert --undo
is stock-2
# Removing the package goes back too.
in_it firstlight divert
in_it dpkg -r firstlight
is stock-2
in_it dpkg -r firstlight-firmware xen-stand-in
in_it dpkg -P firstlight firstlight-firmware xen-stand-in
list >"$root/packages/after"
diff "$root/packages/before" "$root/packages/after" || fail "something is left"
echo "nothing is left"
