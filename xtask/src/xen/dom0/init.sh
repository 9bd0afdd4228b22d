#!/bin/sh
# The first and only service of the test bed's dom0: brings Xen's daemons up, then serves commands from
# the host over a virtio serial port. Files are exchanged through /job, a directory of the host.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir -p /run/lock /run/xen /run/xenstored
for module in virtio_console 9pnet_virtio 9p xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs; do
    modprobe "$module" || echo "firstlight-bed: no module $module"
done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072,cache=none job /job
mount -t xenfs xenfs /proc/xen

bin=$(echo /usr/lib/xen-[0-9]*/bin)
export PATH="$PATH:$bin"
ip link set lo up 2>/dev/null
xenstored --pid-file /run/xenstored.pid
"$bin/xen-init-dom0" >/dev/null
xenconsoled --pid-file=/run/xenconsoled.pid --log=none
xenstore-write /local/domain/0/domid 0 /local/domain/0/name Domain-0 2>/dev/null

port=
for dir in /sys/class/virtio-ports/*; do
    [ "$(cat "$dir/name" 2>/dev/null)" = agent ] && port=/dev/${dir##*/}
done
if [ -z "$port" ]; then
    echo "firstlight-bed: no agent port"
    poweroff -f
fi
exec 3<>"$port"
echo "firstlight-bed up $(cut -d' ' -f1 /proc/uptime)" >&3
# Each line asks to run the script that the host has left in /job.
while read -r _ <&3; do
    sh /job/command </dev/null >&3 2>&1
    echo "firstlight-bed status $?" >&3
done
sync
poweroff -f
