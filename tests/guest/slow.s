# A boot sector that reads from drive 81h twice, 127 sectors each, and meanwhile calls services from the timer's hook.
#
# It prints, in hexadecimal: T the timer ticks that passed during the reads, S the seconds by the clock's own count, H how often the
# hook ran during the reads and got the time of day and the memory size, B the status of INT 13h when the hook called it first
# (FF: CF was clear), R the status of the reads.

.equ TICKS, 0x46c

.include "start.inc"
    cli
    mov word ptr [0x1c * 4], offset hook
    mov [0x1c * 4 + 2], ax
    sti
    call seconds
    mov [start], al
    mov ax, [TICKS]
    mov [first_tick], ax
    mov byte ptr [reading], 1
    call read
    jc 1f
    call read
1:  mov byte ptr [reading], 0
    mov [read_status], ah
    mov al, 'T'
    mov dx, [TICKS]
    sub dx, [first_tick]
    call print
    call seconds
    sub al, [start]
    jns 1f
    add al, 60
1:  movzx dx, al
    mov al, 'S'
    call print
    mov al, 'H'
    mov dx, [hooks]
    call print
    mov al, 'B'
    movzx dx, byte ptr [busy]
    call print
    mov al, 'R'
    movzx dx, byte ptr [read_status]
    call print
    mov al, '\n'
    out 0xe9, al
1:  hlt
    jmp 1b

read:
    mov ah, 0x42
    mov dl, 0x81
    mov si, offset packet
    int 0x13
    ret

# The clock's seconds in AL.
seconds:
    mov ah, 2
    int 0x1a
    mov al, dh
    mov ah, al
    shr ah, 4
    and al, 15
    aad
    ret

# AL and DX, then a space.
print:
    out 0xe9, al
    jmp hex

.include "hex.inc"

hook:
    pusha
    push ds
    xor ax, ax
    mov ds, ax
    cmp [reading], al
    je 3f
    cmp byte ptr [busy], al
    jne 1f
    mov ax, 0x0201
    mov bx, 0x8000
    mov cx, 1
    mov dx, 0x80
    int 0x13
    mov byte ptr [busy], 0xff
    jnc 1f
    mov [busy], ah
1:  mov ah, 2
    int 0x1a
    jc 3f
    mov ah, 0x88
    int 0x15
    jc 3f
    inc word ptr [hooks]
3:  pop ds
    popa
    iret

start:          .byte 0
first_tick:     .word 0
reading:        .byte 0
read_status:    .byte 0
busy:           .byte 0
hooks:          .word 0
packet:         .word 16, 127, 0, 0x2000
                .quad 0

    .org 510
    .word 0xaa55
