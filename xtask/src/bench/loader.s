# A loader for Xen's domain builder that does nothing but say that the guest runs: what starting a guest costs before its firmware.
#
# It writes 'T' to port 0x4E9, and turns the guest off.
    .code32
    .globl _start
_start:
    mov     $0x4E9, %edx
    mov     $'T', %al
    out     %al, %dx
    cli
1:  hlt
    jmp     1b
