# Brings Xen's daemons up.
mkdir -p /run/xen /run/xenstored
for module in xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs; do
    modprobe "$module" || echo "firstlight-bed: no module $module"
done
mount -t xenfs xenfs /proc/xen
bin=$(echo /usr/lib/xen-[0-9]*/bin)
export PATH="$PATH:$bin"
xenstored --pid-file /run/xenstored.pid
"$bin/xen-init-dom0" >/dev/null
xenconsoled --pid-file=/run/xenconsoled.pid --log=none
xenstore-write /local/domain/0/domid 0 /local/domain/0/name Domain-0 2>/dev/null
