# A boot program that says how drives are numbered: its letter, the number that it was given, and of the three first drives of its
# kind the letter of the medium, or `-`. INT 18h gives the turn to the next.
#
# It runs at 0000:7C00 as a boot sector.

.include "letter.inc"
    xor cx, cx
    mov ds, cx
    mov es, cx
    mov bp, dx
    mov al, dl
    shr al, 4
    call digit
    mov al, dl
    call digit
    and bp, 0x80                    # the first drive of this kind
    mov si, 3
next:
    mov dx, bp
    and dx, 0xff                    # head 0
    mov cx, 1
    mov bx, 0x8000
    mov ax, 0x0201
    int 0x13
    mov al, '-'
    jc 1f
    mov al, [0x8001]
1:  out 0xe9, al
    inc bp
    dec si
    jnz next
    mov al, ' '
    out 0xe9, al
    int 0x18
1:  hlt
    jmp 1b

digit:
    and al, 15
    add al, '0'
    cmp al, '9'
    jbe 1f
    add al, 'A' - '9' - 1
1:  out 0xe9, al
    ret
    .org 0x1fe
    .word 0xaa55
