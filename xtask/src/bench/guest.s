# The guest of the benchmarks: a boot sector that says when it started, then reads from its disk, then ends QEMU.
#
# It writes to port 0x4E9: 'T' and the eight bytes of the time-stamp counter at its first instruction; then, if READS is not
# zero, 'B', and 'E' after that many reads of SECTORS sectors by INT 13h AH=42h, or 'X' and AH when one failed. READS is a word at
# offset 0x1B6, and SECTORS one at 0x1B4, which the host fills in.
    .code16
    .globl _start
_start:
    # The drive that the firmware started.
    mov     %edx, %edi
    rdtsc
    mov     %eax, %ebx
    mov     %edx, %ecx
    mov     $0x4E9, %dx
    mov     $'T', %al
    out     %al, %dx
    mov     %ebx, %eax
    call    put_dword
    mov     %ecx, %eax
    call    put_dword

    cli
    xor     %ax, %ax
    mov     %ax, %ds
    mov     %ax, %ss
    mov     $0x7C00, %sp
    sti
    cld
    mov     reads, %bp
    test    %bp, %bp
    jz      finish
    # As boot loaders do first; what a firmware puts off to the first call is no part of a read.
    mov     $0x41, %ah
    mov     $0x55AA, %bx
    mov     %edi, %edx
    int     $0x13
    mov     $'B', %al
    call    put
read:
    mov     sectors, %ax
    mov     %ax, packet + 2
    mov     $0x42, %ah
    mov     %edi, %edx
    mov     $packet, %si
    int     $0x13
    jc      failed
    movzwl  sectors, %eax
    add     %eax, packet + 8
    dec     %bp
    jnz     read
    mov     $'E', %al
    call    put
finish:
    mov     $0xF4, %dx
    xor     %al, %al
    out     %al, %dx
    hlt
    jmp     finish
failed:
    mov     %ah, %bl
    mov     $'X', %al
    call    put
    mov     %bl, %al
    call    put
    jmp     finish

put:
    mov     $0x4E9, %dx
    out     %al, %dx
    ret

# Writes the four bytes of EAX, the lowest first, to the port in DX.
put_dword:
    mov     $4, %si
1:  out     %al, %dx
    shr     $8, %eax
    dec     %si
    jnz     1b
    ret

    .balign 4
# The disk address packet of INT 13h AH=42h: from sector 1 on, to 1000:0000.
packet:
    .byte   16, 0
    .word   0
    .word   0, 0x1000
    .quad   1

    .org    0x1B4
sectors:
    .word   0
reads:
    .word   0
    .org    0x1BE
# One active partition, which some firmware wants to see.
    .byte   0x80, 0, 2, 0, 0x0C, 0xFE, 0xFF, 0xFF
    .long   1, 0x1FFFF
    .org    0x1FE
    .word   0xAA55
