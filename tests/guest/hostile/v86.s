# A small memory manager: virtual-8086 mode with paging, every interrupt reflected, HLT carried out. The page at D000:0 is other memory.
# What runs there says of each service CF and, where all BIOSes agree, AX; then it waits for a key, which INT 15h AH=4Fh sees first, and
# for the mouse.
.include "hostile/common.inc"
.equ STUBS_IDT, 0x60000
.equ PAGE_DIRECTORY, 0x70000
.equ PAGE_TABLE, 0x71000
.equ ELSEWHERE, 0x300000
.equ MONITOR_STACK, STUBS_IDT
.equ SECTORS, 40
    mov si, offset packet
    mov ah, 0x42
    int 0x13
    jmp main
packet:
    .byte 16, 0
    .word SECTORS, 0x7e00, 0
    .quad 1
    boot_signature

main:
    # A mouse of three bytes a packet, its handler, and reports.
    mov ax, 0xc205
    mov bx, 0x0300
    int 0x15
    xor ax, ax
    mov es, ax
    mov ax, 0xc207
    mov bx, offset moved
    int 0x15
    mov ax, 0xc200
    mov bx, 0x0100
    int 0x15
    cli
    mov ax, STUBS_IDT >> 4
    mov es, ax
    xor di, di
    mov ax, offset stubs
    mov cx, 256
1:  stosw
    push ax
    mov ax, 0x18
    stosw
    mov ax, 0xee00                  # 32-bit interrupt gate that every level may use
    stosw
    xor ax, ax
    stosw
    pop ax
    add ax, 16
    loop 1b
    mov ax, PAGE_DIRECTORY >> 4
    mov es, ax
    xor di, di
    xor eax, eax
    mov cx, 1024
    rep stosd
    mov dword ptr es:[0], PAGE_TABLE | 7
    mov eax, 7
    mov cx, 1024
2:  stosd
    add eax, 0x1000
    loop 2b
    mov dword ptr es:[0x1000 + 4 * 0xd0], ELSEWHERE | 7
    lgdt [gdt_pointer]
    lidt [idt_pointer]
    mov eax, PAGE_DIRECTORY
    mov cr3, eax
    mov eax, cr0
    or eax, 0x80000001
    mov cr0, eax
    ljmp 0x18, offset protected
    .code32
protected:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, MONITOR_STACK
    mov ax, 0x20
    ltr ax
    .rept 4                         # GS, FS, DS, ES
    push 0
    .endr
    push 0                          # SS
    push 0x7c00
    push 0x23202                    # VM, IOPL 3, IF
    push 0                          # CS
    push offset guest
    iretd

    .balign 16
stubs:
    .set vector, 0
    .rept 256
    push vector
    jmp reflect
    .balign 16
    .set vector, vector + 1
    .endr
# On the stack: vector, the error code of an exception that has one, EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS.
.equ SAVED, 32
reflect:
    pushad
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ebp, esp
    mov eax, MONITOR_STACK
    sub eax, ebp
    cmp eax, SAVED + (1 + 9) * 4
    je 1f
    # A privileged instruction: only HLT is.
    movzx eax, word ptr [ebp + SAVED + 12]
    shl eax, 4
    add eax, [ebp + SAVED + 8]
    cmp byte ptr [eax], 0xf4
    jne 2f
    inc dword ptr [ebp + SAVED + 8]
    # No interrupt can come in here, whose frame would be another: the one that the guest waits for comes when it is back.
    popad
    add esp, 8
    iretd
1:  mov ecx, [ebp + SAVED]
    movzx ebx, word ptr [ebp + SAVED + 20]
    shl ebx, 4
    movzx edi, word ptr [ebp + SAVED + 16]
    sub di, 6
    mov [ebp + SAVED + 16], di
    mov eax, [ebp + SAVED + 12]
    mov [ebx + edi + 4], ax
    mov eax, [ebp + SAVED + 8]
    mov [ebx + edi + 2], ax
    mov eax, [ebp + SAVED + 4]
    mov [ebx + edi], ax
    movzx eax, word ptr [ecx * 4]
    mov [ebp + SAVED + 4], eax
    movzx eax, word ptr [ecx * 4 + 2]
    mov [ebp + SAVED + 8], eax
    and dword ptr [ebp + SAVED + 12], ~0x300
    popad
    add esp, 4
    iretd
2:  mov al, 'X'
    out 0xe9, al
    mov al, [ebp + SAVED]
    add al, '0'
    out 0xe9, al
    cli
    hlt

    .code16
.macro service vector, function, bx, cx, dx
    mov eax, \function
    mov bx, \bx
    mov cx, \cx
    mov edx, \dx
    int \vector
    call say_carry
.endm
.macro answer vector, function, bx, cx, dx
    service \vector, \function, \bx, \cx, \dx
    call say
.endm
guest:
    put 'V'
    answer 0x12, 0, 0, 0, 0
    service 0x11, 0, 0, 0, 0
    mov ax, 0xd000
    mov es, ax
    mov eax, [0x46c]
    mov [began], eax
    answer 0x13, 0x0201, 0, 1, 0x80
    mov eax, ds:[0x46c]
    sub eax, [began]
    cmp eax, 20
    jb 1f
    put 'T'                         # it took its time, and time went on
1:
    mov ax, es:[510]
    call say
    mov bp, ds
    mov ax, bp
    call say
    xor ax, ax
    mov es, ax
    service 0x13, 0x0800, 0, 0, 0x80
    service 0x15, 0x8800, 0, 0, 0
    mov di, 0x2000
    service 0x15, 0xe820, 0, 20, 0x534d4150
    mov ax, [0x2010]
    call say
    answer 0x16, 0x0100, 0, 0, 0
    answer 0x16, 0x0500, 0, 0x1e61, 0
    answer 0x16, 0x1100, 0, 0, 0
    answer 0x16, 0x1000, 0, 0, 0
    service 0x1a, 0x0200, 0, 0, 0
    answer 0x1a, 0xb101, 0, 0, 0
    answer 0x10, 0x0e41, 7, 0, 0
    answer 0x10, 0x4f03, 0, 0, 0
    service 0x14, 0x0300, 0, 0, 0
    answer 0x15, 0xc000, 0, 0, 0
    service 0x15, 0x8600, 0, 1, 0
    xor ax, ax
    mov ds, ax
    mov es, ax
    # Real interrupts come by themselves.
    mov ax, [0x46c]
1:  cmp ax, [0x46c]
    je 1b
    cli
    mov eax, [4 * 0x15]
    mov [before], eax
    mov word ptr [4 * 0x15], offset intercept
    mov word ptr [4 * 0x15 + 2], 0
    sti
    put '#'
    mov ah, 0
    int 0x16
    out 0xe9, al
    put '!'
1:  cmp byte ptr cs:[has_moved], 0
    je 1b
    finish

# The mouse's handler, which has a packet of four words above its return address: status first, then X, Y and Z downwards.
moved:
    push bp
    mov bp, sp
    cmp byte ptr cs:[has_moved], 0
    jne 1f
    push ax
    .irp offset, 12, 10, 8, 6
    mov ax, [bp + \offset]
    call say
    .endr
    pop ax
    mov byte ptr cs:[has_moved], 1
1:  pop bp
    retf
has_moved: .byte 0

intercept:
    cmp ah, 0x4f
    jne 1f
    test al, 0x80
    jnz 1f
    put 'k'
1:  ljmp cs:[before]
before: .long 0
began: .long 0

say_carry:
    push ax
    mov al, '0'
    adc al, 0
    out 0xe9, al
    pop ax
    ret
# AX as four digits.
say:
    push ax
    push bx
    mov bx, ax
    .irp shift, 12, 8, 4, 0
    mov ax, bx
    shr ax, \shift
    call digit
    .endr
    pop bx
    pop ax
    ret
digit:
    and al, 15
    add al, '0'
    out 0xe9, al
    ret

    .balign 8
gdt:
    .quad 0, 0, 0x00cf93000000ffff, 0x00cf9b000000ffff
    .word 0x2100, task_state, 0x8900, 0
gdt_pointer:
    .word 39
    .long gdt
idt_pointer:
    .word 256 * 8 - 1
    .long STUBS_IDT
    .balign 4
# Level 0's stack; an I/O map that lets everything through.
task_state:
    .long 0, MONITOR_STACK, 0x10
    .rept 22
    .long 0
    .endr
    .word 0, 104
    .skip 0x2000
    .byte 0xff
    .org 512 + SECTORS * 512
