# A boot program that asks the Plug and Play BIOS what can be booted (BIOS Boot Specification 1.01, functions 60h to 64h), and says it on
# port E9h: the version, then the entries of both tables by type, status and name, then the place of the device that was booted. A status
# of an error ends it. `!` is the end.
#
# It runs at 0000:7C00 as a boot sector.

.include "start.inc"
.equ NUMBERS, 0x8000
.equ PRIORITY, 0x8010
.equ TABLE, 0x8100

    mov ax, 0xf000
    mov es, ax
    xor di, di
1:  cmp dword ptr es:[di], 0x506e5024   # "$PnP"
    je 2f
    add di, 16
    jnz 1b
    jmp done
2:  mov eax, es:[di + 0x0d]
    mov [entry], eax

    push 0xf000
    push ds
    push NUMBERS
    push 0x60
    call ask
    mov dx, [NUMBERS]
    call hex
    xor bp, bp
tables:
    push 0xf000
    push ds
    push NUMBERS + 4
    push ds
    push NUMBERS + 2
    push ds
    push NUMBERS
    push bp
    push 0x61
    call ask
    push 0xf000
    push ds
    push TABLE
    push ds
    push PRIORITY
    push bp
    push 0x62
    call ask
    mov cx, [NUMBERS]
    xor bx, bx
entries:
    mov al, '\n'
    out 0xe9, al
    movzx di, byte ptr [PRIORITY + bx]
    imul di, [NUMBERS + 4]
    mov dx, [TABLE + di]
    call hex
    mov dx, [TABLE + di + 2]
    call hex
    lds si, [TABLE + di + 8]
2:  lodsb
    test al, al
    jz 3f
    out 0xe9, al
    jmp 2b
3:  xor ax, ax
    mov ds, ax
    inc bx
    loop entries
    inc bp
    cmp bp, 2
    jb tables

    mov al, '\n'
    out 0xe9, al
    push 0xf000
    push ds
    push NUMBERS
    push 0x64
    call ask
    mov dx, [NUMBERS]
    call hex
done:
    mov al, '!'
    out 0xe9, al
1:  hlt
    jmp 1b

# Calls the entry point with the words on the stack, and takes them off. Ends the program at an error.
ask:
    pop word ptr [back]
    lcall [entry]
    mov sp, 0x7c00
    test ax, ax
    jz 1f
    mov dx, ax
    call hex
    jmp done
1:  jmp [back]

.include "hex.inc"

entry:
    .long 0
back:
    .word 0
    .org 0x1fe
    .word 0xaa55
