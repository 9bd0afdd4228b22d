#!/bin/sh
# QEMU, started as libxl starts it. Xen 4.20's libxl asks for a machine without ACPI by an option that the QEMU beside it no longer has.
for argument do
    shift
    case $argument in
    -no-acpi) set -- "$@" -machine acpi=off ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec /usr/libexec/xen-qemu-system-i386 "$@"
