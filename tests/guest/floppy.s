# A diskette's boot sector that reads by cylinder, head and sector, as old boot programs do.
#
# It says the first byte of each sector of its table, writes the sector behind the table and says the status as a letter from @ on.
# Then it looks at sector 1 again and again, and says what becomes of it: a line with the status as two letters from @ on.

.set DEBUG, 0xe9
.set BUFFER, 0x8000
.set TICKS, 0x46c

.include "start.inc"
    mov [drive], dl
    mov si, offset table
1:  lodsb
    cmp al, 0xff
    je 2f
    mov ch, al
    lodsw
    mov dh, al
    mov cl, ah
    mov ax, 0x0201
    call disk
    jc failed
    mov al, [BUFFER]
    out DEBUG, al
    jmp 1b
2:  mov di, BUFFER
    mov cx, 512
    mov al, 'W'
    rep stosb
    lodsb
    mov ch, al
    lodsw
    mov dh, al
    mov cl, ah
    mov ax, 0x0301
    call disk
    mov al, ah
    add al, '@'
    out DEBUG, al
    mov bl, 0xff                    # the status that was said last
watch:
    push bx
    xor dh, dh
    mov cx, 1
    mov ax, 0x0201
    call disk
    pop bx
    cmp ah, bl
    je 3f
    mov bl, ah
    call line
3:  mov cx, [TICKS]
    add cx, 4
4:  hlt
    cmp cx, [TICKS]
    jns 4b
    jmp watch

failed:
    mov bl, ah
    call line
5:  hlt
    jmp 5b

# INT 13h with the drive and the buffer.
disk:
    mov dl, [drive]
    mov bx, BUFFER
    int 0x13
    ret

# Says BL.
line:
    mov al, '\n'
    out DEBUG, al
    mov al, bl
    shr al, 4
    add al, '@'
    out DEBUG, al
    mov al, bl
    and al, 15
    add al, '@'
    out DEBUG, al
    mov al, '\n'
    out DEBUG, al
    ret

drive:
    .byte 0
    .org 0x100
table:                              # TABLE in tests/floppy.rs is its offset
    .org 0x1fe
    .word 0xaa55
