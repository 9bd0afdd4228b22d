# Loads KVM, and shows what it counts.
modprobe kvm_amd || echo "firstlight-bed: no KVM"
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
# Guests may have more memory than the bed, if they do not use it.
echo 1 >/proc/sys/vm/overcommit_memory
