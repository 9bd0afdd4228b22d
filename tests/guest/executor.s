# The executor: runs a script of small operations and reports each answer as a text line on port 0xE9.
#
# What to call, with which registers, and what the answers are named is decided on the host (src/script.rs);
# this program only executes and reports, so a new check needs no new assembly. A report line is
# `~`, a letter for the kind, and hexadecimal bytes in memory order.
#
# Memory: 0x10000 this program and its stack, 0x18000 the script, 0x40000..0x60000 buffers for the calls,
# 0x60000..0x70000 the callers' stack, 0x70000..0x7f000 page tables, CPU slots, IDT and TSS, 0x8000 the AP trampoline.

.intel_syntax noprefix
.code16
.equ OWN_SEGMENT,   0x1000
.equ OWN_BASE,      0x10000
.equ SCRIPT,        0x18000
.equ RECORD,        0x6000          # offset in our segment: the current operation
.equ RECORD_LIMIT,  0x1000
.equ STACK_TOP,     0x7ff0
.equ CONSOLE,       0xe9
.equ EXIT_PORT,     0xf4
.equ OPERATION_COUNT, 23
.equ OUT_LENGTH,    48              # what a call left: see `out`
.equ STATE_LENGTH,  576             # see take_state

# The registers that a call has, from its record, where DS begins `base` bytes before our segment.
.macro LOAD_REGISTERS base=0
    mov eax, [\base + RECORD + 12]
    mov ebx, [\base + RECORD + 16]
    mov ecx, [\base + RECORD + 20]
    mov edx, [\base + RECORD + 24]
    mov esi, [\base + RECORD + 28]
    mov edi, [\base + RECORD + 32]
    mov ebp, [\base + RECORD + 36]
.endm

.section .text
.global _start
_start:
    mov cs:[boot_drive], dl
    mov dword ptr cs:[script_at], SCRIPT
    call own_state
    mov al, 'B'
    call line_start
    mov al, [boot_drive]
    call put_byte
    call line_end

next_operation:
    call own_state
    mov eax, [script_at]
    mov bx, ax
    and bx, 15
    shr eax, 4
    mov fs, ax
    mov cx, fs:[bx + 2]             # length of the whole operation, header included
    cmp cx, RECORD_LIMIT
    ja bad_script
    cmp cx, 4
    jb bad_script
    movzx eax, cx
    add [script_at], eax
    mov di, RECORD
1:  mov al, fs:[bx]
    mov [di], al
    inc bx
    inc di
    loop 1b
    movzx bx, byte ptr [RECORD]
    cmp bx, OPERATION_COUNT
    jae bad_script
    shl bx, 1
    call [operations + bx]
    jmp next_operation

bad_script:
    mov al, '!'
    call line_start
    call line_end
op_end:
    mov al, 'E'
    call line_start
    call line_end
    mov dx, EXIT_PORT
    mov al, 0x10
    out dx, al
    cli
1:  hlt
    jmp 1b

# Our own segments, stack and flags, whatever a called service left. Keeps nothing.
own_state:
    pop ax
    mov bx, cs
    cli
    mov ss, bx
    mov esp, STACK_TOP
    mov ds, bx
    mov es, bx
    cld
    sti
    jmp ax

# ---- Reporting ----------------------------------------------------------------------------------------------

# AL = kind letter. Keeps all registers.
line_start:
    push ax
    mov al, '~'
    call put_char
    pop ax
    jmp put_char
line_end:
    push ax
    mov al, 10
    call put_char
    pop ax
    ret
put_char:
    push dx
    mov dx, CONSOLE
    out dx, al
    pop dx
    ret
# AL as two hexadecimal digits.
put_byte:
    push ax
    mov ah, al
    shr al, 4
    call put_digit
    mov al, ah
    and al, 15
    call put_digit
    pop ax
    ret
put_digit:
    cmp al, 10
    jb 1f
    add al, 'a' - '0' - 10
1:  add al, '0'
    jmp put_char
# EAX as four bytes in memory order.
put_dword:
    push eax
    push cx
    mov cx, 4
1:  call put_byte
    shr eax, 8
    loop 1b
    pop cx
    pop eax
    ret
# CX bytes at DS:SI.
put_bytes:
    jcxz 2f
1:  lodsb
    call put_byte
    loop 1b
2:  ret

# ---- Memory, ports, time ------------------------------------------------------------------------------------

# Gives GS base 0 and a limit of 4 GiB. Keeps all but EFLAGS; leaves interrupts off.
big_gs:
    push eax
    cli
    lgdt cs:[gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov ax, 0x08
    mov gs, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    xor ax, ax
    mov gs, ax
    pop eax
    ret

# dump: u32 linear address, u16 length
op_dump:
    mov esi, [RECORD + 4]
    mov cx, [RECORD + 8]
dump_at:                            # ESI = linear address, CX = length
    call big_gs
    mov al, 'D'
    call line_start
    jcxz 2f
1:  mov al, gs:[esi]
    call put_byte
    inc esi
    loop 1b
2:  jmp line_end

# dump at a pointer of the last call: u8 segment register (offset in `out`), u8 offset register, u16 length
op_dump_pointer:
    movzx bx, byte ptr [RECORD + 4]
    movzx eax, word ptr [out + bx]
    shl eax, 4
    movzx bx, byte ptr [RECORD + 5]
    movzx esi, word ptr [out + bx]
    add esi, eax
    mov cx, [RECORD + 6]
    jmp dump_at

# dump at the address the last scan found: u16 displacement, u16 length
op_dump_found:
    mov cx, [RECORD + 6]
    movzx esi, word ptr [RECORD + 4]
    add esi, [found]
    jmp dump_at

# poke: u32 linear address, bytes
op_poke:
    call big_gs
    mov edi, [RECORD + 4]
    mov si, RECORD + 8
    mov cx, [RECORD + 2]
    sub cx, 8
    jz 2f
1:  lodsb
    mov gs:[edi], al
    inc edi
    loop 1b
2:  ret

# fill: u32 linear address, u32 length, u8 value
op_fill:
    call big_gs
    mov edi, [RECORD + 4]
    mov ecx, [RECORD + 8]
    mov al, [RECORD + 12]
1:  test ecx, ecx
    jz 2f
    mov gs:[edi], al
    inc edi
    dec ecx
    jmp 1b
2:  ret

# sum: u32 linear address, u32 length. Reports the 32-bit FNV-1a hash.
op_sum:
    call big_gs
    mov esi, [RECORD + 4]
    mov ecx, [RECORD + 8]
    mov eax, 0x811c9dc5
1:  test ecx, ecx
    jz 2f
    xor al, gs:[esi]
    imul eax, eax, 0x01000193
    inc esi
    dec ecx
    jmp 1b
2:  push eax
    mov al, 'S'
    call line_start
    pop eax
    call put_dword
    jmp line_end

# out: u16 port, u8 size, u8 -, u32 value
op_out:
    mov dx, [RECORD + 4]
    mov eax, [RECORD + 8]
    cmp byte ptr [RECORD + 6], 2
    jb 1f
    je 2f
    out dx, eax
    ret
1:  out dx, al
    ret
2:  out dx, ax
    ret

# in: u16 port, u8 size
op_in:
    mov dx, [RECORD + 4]
    xor eax, eax
    cmp byte ptr [RECORD + 6], 2
    jb 1f
    je 2f
    in eax, dx
    jmp 3f
1:  in al, dx
    jmp 3f
2:  in ax, dx
3:  push eax
    mov al, 'I'
    call line_start
    pop eax
    call put_dword
    jmp line_end

# wait: u16 timer ticks (18.2 a second), counted in the BIOS data area; u16 segment whose byte 0 ends the wait once its
# bit 7 is set, or 0. Gives up and says so when time stands still.
op_wait:
    xor ax, ax
    mov fs, ax
    mov cx, [RECORD + 4]
    mov es, [RECORD + 6]
1:  jcxz 4f
    cmp word ptr [RECORD + 6], 0
    je 5f
    test byte ptr es:[0], 0x80
    jnz 4f
5:  mov eax, fs:[0x46c]
    mov edx, 40000000
2:  sti
    pause
    cmp eax, fs:[0x46c]
    jne 3f
    dec edx
    jnz 2b
    mov al, 'T'
    call line_start
    xor al, al
    call put_byte
    jmp line_end
3:  loop 1b
4:  mov al, 'T'
    call line_start
    mov al, 1
    call put_byte
    jmp line_end

# scan: u32 start, u32 end, u16 step, u16 length, signature. Reports the address found or zero.
op_scan:
    call big_gs
    mov ebx, [RECORD + 4]
1:  cmp ebx, [RECORD + 8]
    jae 4f
    mov edi, ebx
    mov si, RECORD + 16
    mov cx, [RECORD + 14]
2:  lodsb
    cmp al, gs:[edi]
    jne 3f
    inc edi
    loop 2b
    jmp 5f
3:  movzx eax, word ptr [RECORD + 12]
    add ebx, eax
    jmp 1b
4:  xor ebx, ebx
5:  mov [found], ebx
    mov al, 'A'
    call line_start
    mov eax, ebx
    call put_dword
    jmp line_end

# text: bytes, copied to the report as they are
op_text:
    mov al, 'X'
    call line_start
    mov si, RECORD + 4
    mov cx, [RECORD + 2]
    sub cx, 4
    jz 2f
1:  lodsb
    call put_char
    loop 1b
2:  jmp line_end

# halt: stops with interrupts off, for the host to look at the machine
op_halt:
    mov al, 'H'
    call line_start
    call line_end
    cli
1:  hlt
    jmp 1b

# memory map: walks INT 15h E820h, reporting each entry, ECX and EBX
op_e820:
    xor ebx, ebx
    mov word ptr [entry_count], 0
1:  mov eax, 0xe820
    mov edx, 0x534d4150
    mov ecx, 24
    mov dword ptr [e820_entry + 20], 1
    mov di, offset e820_entry
    int 0x15
    push cs
    pop ds
    push cs
    pop es
    jc 2f
    cmp eax, 0x534d4150
    jne 2f
    mov al, 'M'
    call line_start
    mov cx, 24
    mov si, offset e820_entry
    call put_bytes
    call line_end
    inc word ptr [entry_count]
    cmp word ptr [entry_count], 200
    ja 2f
    test ebx, ebx
    jnz 1b
2:  mov al, 'N'
    call line_start
    mov al, [entry_count]
    call put_byte
    jmp line_end

# ---- Calling a service --------------------------------------------------------------------------------------

.equ CALL_FULL_STATE, 1             # fill and report FPU, SSE, control and debug registers too
.equ CALL_A20_OFF,    2
.equ CALL_UNREAL,     4             # DS, ES, FS, GS with 4 GiB limits

# call: u8 interrupt, u8 flags, u16 SS, u32 ESP, u32 EAX EBX ECX EDX ESI EDI EBP, u16 DS ES FS GS, u32 EFLAGS
op_call:
    mov al, [RECORD + 4]
    mov byte ptr [interrupt_number], al
    test byte ptr [RECORD + 5], CALL_A20_OFF
    jz 1f
    in al, 0x92
    and al, 0xfc
    out 0x92, al
1:  call test_a20
    mov [out_a20_before], al
    test byte ptr [RECORD + 5], CALL_UNREAL
    jz 1f
    call unreal_all
1:  test byte ptr [RECORD + 5], CALL_FULL_STATE
    jz 1f
    call fill_state
    mov di, offset state_before
    call take_state
1:  call load_and_interrupt
    call test_a20
    mov [out_a20], al
    in al, 0x92
    or al, 2
    and al, 0xfe
    out 0x92, al
    test byte ptr [RECORD + 5], CALL_FULL_STATE
    jz 1f
    mov di, offset state_after
    call take_state
    mov al, 'F'
    mov si, offset state_before
    call report_state
    mov al, 'G'
    mov si, offset state_after
    call report_state
1:  mov al, 'C'
    call report_out
    jmp next_operation              # the stack it was called on is gone

report_out:
    call line_start
    mov si, offset out
    mov cx, OUT_LENGTH
    call put_bytes
    jmp line_end

report_state:
    call line_start
    mov cx, STATE_LENGTH
    call put_bytes
    jmp line_end

load_and_interrupt:
    pop word ptr [return_to]
    cli
    mov ss, [RECORD + 6]
    mov esp, [RECORD + 8]
    push dword ptr [RECORD + 48]
    LOAD_REGISTERS
    mov es, [RECORD + 42]
    mov fs, [RECORD + 44]
    mov gs, [RECORD + 46]
    mov ds, [RECORD + 40]
    popfd
    .byte 0xcd                      # int
interrupt_number:
    .byte 0
    mov cs:[out_esp], esp
    mov cs:[out_eax], eax
    mov cs:[out_ss], ss
    mov ax, cs
    mov ss, ax
    mov esp, STACK_TOP
    pushfd
    pop dword ptr cs:[out_eflags]
    mov cs:[out_ebx], ebx
    mov cs:[out_ecx], ecx
    mov cs:[out_edx], edx
    mov cs:[out_esi], esi
    mov cs:[out_edi], edi
    mov cs:[out_ebp], ebp
    mov cs:[out_ds], ds
    mov cs:[out_es], es
    mov cs:[out_fs], fs
    mov cs:[out_gs], gs
    cld
    mov ds, ax
    mov es, ax
    jmp [return_to]

# AL = 1 if A20 is on. Interrupts off meanwhile: the byte tested is the boot sector's, long finished.
test_a20:
    pushf
    cli
    push ds
    push es
    xor ax, ax
    mov ds, ax
    dec ax
    mov es, ax
    mov byte ptr ds:[0x7c10], 0x5a
    mov byte ptr es:[0x7c20], 0xa5
    cmp byte ptr ds:[0x7c10], 0x5a
    sete al
    pop es
    pop ds
    popf
    ret

# All data segment registers with 4 GiB limits. The later loads in real mode keep the limits.
unreal_all:
    cli
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 0x08
    mov ds, bx
    mov es, bx
    mov fs, bx
    mov gs, bx
    and al, 0xfe
    mov cr0, eax
    mov bx, cs
    mov ds, bx
    mov es, bx
    ret

# SSE on, and a known pattern in x87, MMX, XMM0-7, MXCSR and the debug address registers.
fill_state:
    mov eax, cr0
    and eax, 0xfffffff3             # EM and TS off
    or al, 2                        # MP
    mov cr0, eax
    mov eax, cr4
    or eax, 0x600                   # OSFXSR, OSXMMEXCPT
    mov cr4, eax
    fninit
    mov di, offset fx_pattern
    fxsave [di]
    lea bx, [di + 32]
    mov cx, 256
    mov al, 0x11
1:  mov [bx], al
    add al, 0x1d
    inc bx
    loop 1b
    mov dword ptr [di + 24], 0x1f80 | 0x2000    # MXCSR: default masks, round down
    mov word ptr [di], 0x027f       # FCW: double precision, masked
    mov word ptr [di + 2], 0x3800   # FSW: top of stack 7
    mov byte ptr [di + 4], 0xff     # all registers in use
    fxrstor [di]
    mov eax, 0x00012340
    mov dr0, eax
    mov eax, 0x00023450
    mov dr1, eax
    mov eax, 0x00034560
    mov dr2, eax
    mov eax, 0x00045670
    mov dr3, eax
    ret

# Writes everything take_state can see to DS:DI.
take_state:
    fxsave [di]
    add di, 512
    mov eax, cr0
    stosd
    mov eax, cr2
    stosd
    mov eax, cr3
    stosd
    mov eax, cr4
    stosd
    mov ecx, 0xc0000080             # IA32_EFER
    rdmsr
    stosd
    mov eax, edx
    stosd
    data32 sgdt [di]
    data32 sidt [di + 6]
    add di, 12
    mov eax, dr0
    stosd
    mov eax, dr1
    stosd
    mov eax, dr2
    stosd
    mov eax, dr3
    stosd
    mov eax, dr6
    stosd
    mov eax, dr7
    stosd
    in al, 0x21
    stosb
    in al, 0xa1
    stosb
    in al, 0x92
    stosb
    xor al, al
    stosb
    ret

# hook: u8 vector, u8 slot 0-3, u8 mode (0 count and return, 1 count and go on to the old handler, 2 unhook and report)
op_hook:
    xor ax, ax
    mov fs, ax
    movzx bx, byte ptr [RECORD + 5]
    and bx, 3
    movzx di, byte ptr [RECORD + 4]
    shl di, 2
    mov si, bx
    shl si, 2
    cli
    cmp byte ptr [RECORD + 6], 2
    je 1f
    mov eax, fs:[di]
    mov [hook_old + si], eax
    mov dword ptr [hook_count + si], 0
    mov al, [RECORD + 6]
    mov [hook_mode + bx], al
    shl bx, 1
    mov ax, [hook_stub + bx]
    mov fs:[di], ax
    mov fs:[di + 2], cs
    ret
1:  mov eax, [hook_old + si]
    mov fs:[di], eax
    mov al, 'K'
    call line_start
    mov eax, [hook_count + si]
    call put_dword
    jmp line_end

.macro HOOK_STUB slot
hook_\slot:
    inc dword ptr cs:[hook_count + \slot * 4]
    cmp byte ptr cs:[hook_mode + \slot], 1
    jne 1f
    jmp far ptr cs:[hook_old + \slot * 4]
1:  iret
.endm
    HOOK_STUB 0
    HOOK_STUB 1
    HOOK_STUB 2
    HOOK_STUB 3

.include "protected.s"
.include "machine.s"

# ---- Data ---------------------------------------------------------------------------------------------------

    .balign 2
operations:
    .word op_end, op_call, op_dump, op_dump_pointer, op_dump_found, op_poke, op_fill, op_sum
    .word op_out, op_in, op_wait, op_scan, op_text, op_halt, op_e820, op_hook
    .word op_call32, op_call_v86, op_call_pm16, op_long_mode_sse, op_start_aps, op_pci, op_reboot
operations_end:
.if operations_end - operations - 2 * OPERATION_COUNT
.error "OPERATION_COUNT"
.endif

hook_stub:
    .word hook_0, hook_1, hook_2, hook_3
    .balign 4
hook_count: .fill 4, 4, 0
hook_old:   .fill 4, 4, 0
hook_mode:  .fill 4, 1, 0

script_at:   .long 0
found:       .long 0
entry_count: .word 0
return_to:   .word 0
boot_drive:  .byte 0

    .balign 16
out:
out_eax:    .long 0
out_ebx:    .long 0
out_ecx:    .long 0
out_edx:    .long 0
out_esi:    .long 0
out_edi:    .long 0
out_ebp:    .long 0
out_esp:    .long 0
out_eflags: .long 0
out_ds:     .word 0
out_es:     .word 0
out_fs:     .word 0
out_gs:     .word 0
out_ss:     .word 0
out_a20:    .byte 0
out_a20_before: .byte 0
.if . - out - OUT_LENGTH
.error "OUT_LENGTH"
.endif

    .balign 16
e820_entry: .fill 32, 1, 0
    .balign 16
fx_pattern: .fill 512, 1, 0
state_before: .fill STATE_LENGTH, 1, 0
    .balign 16
state_after:  .fill STATE_LENGTH, 1, 0

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf92000000ffff        # 08 data, base 0, 4 GiB
    .quad 0x00cf9a010000ffff        # 10 32-bit code, base 0x10000
    .quad 0x00cf92010000ffff        # 18 data, base 0x10000
    .quad 0x00009a010000ffff        # 20 16-bit code, base 0x10000, 64 KiB
    .quad 0x000092010000ffff        # 28 data, base 0x10000, 64 KiB
    .quad 0x00cf9a000000ffff        # 30 32-bit code, base 0
gdt_tss:
    .quad 0                         # 38 TSS, filled in
    .quad 0x00009200040000ff        # 40 data, the BIOS data area
    .quad 0x00af9a000000ffff        # 48 64-bit code
    .quad 0x000092060000ffff        # 50 data, base 0x60000, 64 KiB: the callers' stack
    .quad 0x000092040000ffff        # 58 data, base 0x40000, 64 KiB: what callers have read
gdt_target:
    .quad 0x00009a000000ffff        # 60 16-bit code, base filled in
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long OWN_BASE + gdt
real_idt_pointer:
    .word 0x3ff
    .long 0
