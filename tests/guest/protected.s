# Calls from callers that are not in plain real mode: 32-bit flat, virtual-8086, 16-bit protected mode, and a
# visit to long mode for the SSE registers only it can reach. Included by executor.s.

.equ IDT,           0x7b000
.equ IDT_GATES,     0x31
.equ EXIT_VECTOR,   0x30
.equ NO_ENTRY,      0xff            # reported in place of a vector when there is nothing to call
.equ TSS,           0x7c000
.equ TSS_LENGTH,    0x68 + 0x2000 + 1
.equ PAGE_TABLES,   0x70000
.equ SSE_REPORT,    0x77000         # where XMM8-15 are stored to be reported
.equ MODE_STACK,    OWN_BASE + STACK_TOP - 0x400

# Leaves real mode for the 32-bit code at label `to`. Interrupts stay off, both PICs masked.
.macro ENTER_32 to
    cli
    call build_idt
    in al, 0x21
    mov [saved_masks], al
    in al, 0xa1
    mov [saved_masks + 1], al
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    lgdt [gdt_pointer]
    lidt [idt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0xea
    .word \to, 0x10
.endm

# A gate for each exception and one to leave by, all to 32-bit handlers in our segment.
build_idt:
    call big_gs
    mov edi, IDT
    mov cx, IDT_GATES
    mov eax, offset fault_stubs
1:  mov gs:[edi], ax
    mov word ptr gs:[edi + 2], 0x10
    mov word ptr gs:[edi + 4], 0xee00
    mov word ptr gs:[edi + 6], 0
    add edi, 8
    add eax, 8
    loop 1b
    ret

# call32: u8 kind (0 entry point at offset 4 of the structure found, 1 service entry the last kind 0 call returned),
# u8 -, u16 -, u32 -, then the registers as in `call`
op_call32:
    call big_gs
    mov eax, [service_entry]
    cmp byte ptr [RECORD + 4], 0
    jne 1f
    mov ebx, [found]
    mov eax, gs:[ebx + 4]
    test ebx, ebx
    jz no_entry
1:  mov [entry32], eax
    test eax, eax
    jz no_entry
    ENTER_32 call32_protected
no_entry:                           # the scan or the directory found nothing to call
    mov al, 'V'
    call line_start
    mov al, NO_ENTRY
    call put_byte
    call line_end
    mov al, 'C'
    jmp report_out
# By flat addresses: QEMU 11's translator forgets an override by CS where the bases of all data segments are zero.
.code32
call32_protected:
    mov ax, 0x08
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov esp, MODE_STACK
    LOAD_REGISTERS OWN_BASE
    call fword ptr [OWN_BASE + entry32]
    pushfd
    push ds
    push es
    push eax
    mov ax, 0x18
    mov ds, ax
    pop dword ptr [out_eax]
    pop eax
    mov [out_es], ax
    pop eax
    mov [out_ds], ax
    pop dword ptr [out_eflags]
    mov [out_esp], esp
    mov [out_ebx], ebx
    mov [out_ecx], ecx
    mov [out_edx], edx
    mov [out_esi], esi
    mov [out_edi], edi
    mov [out_ebp], ebp
    mov [out_ss], ss
    mov word ptr [out_fs], 0
    mov word ptr [out_gs], 0
    mov byte ptr [fault_vector], EXIT_VECTOR
    cmp byte ptr [RECORD + 4], 0
    jne leave_32
    cmp byte ptr [out_eax], 0
    jne leave_32                    # no such service
    lea eax, [ebx + edx]
    mov [service_entry], eax

# Back to real mode, to the line that reports the call. Any stack, any data segments.
leave_32:
    .byte 0xea
    .long leave_16
    .word 0x20
.code16
leave_16:
    mov ax, 0x28
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov eax, cr0
    and al, 0xfe
    mov cr0, eax
    .byte 0xea
    .word leave_real, OWN_SEGMENT
leave_real:
    mov ax, cs
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, STACK_TOP
    lidt [real_idt_pointer]
    mov al, [saved_masks]
    out 0x21, al
    mov al, [saved_masks + 1]
    out 0xa1, al
    sti
    mov al, 'V'
    call line_start
    mov al, [fault_vector]
    call put_byte
    call line_end
    mov al, 'C'
    call report_out
    jmp next_operation

# call from virtual-8086 mode with IOPL 3 and every port open: record as in `call`
op_call_v86:
    call copy_vector
    call big_gs
    mov edi, TSS
    mov ecx, TSS_LENGTH
1:  mov byte ptr gs:[edi], 0
    inc edi
    dec ecx
    jnz 1b
    mov byte ptr gs:[edi - 1], 0xff             # the I/O bitmap ends with a byte of ones
    mov edi, TSS
    mov dword ptr gs:[edi + 4], MODE_STACK
    mov word ptr gs:[edi + 8], 0x08
    mov word ptr gs:[edi + 0x66], 0x68
    mov dword ptr [gdt_tss], ((TSS & 0xffff) << 16) | (TSS_LENGTH - 1)
    mov dword ptr [gdt_tss + 4], 0x8900 | (TSS >> 16)
    ENTER_32 v86_protected
.code32
v86_protected:
    mov ax, 0x08
    mov ds, ax
    mov ss, ax
    mov esp, MODE_STACK
    mov ax, 0x38
    ltr ax
    movzx eax, word ptr [OWN_BASE + RECORD + 46]
    push eax
    movzx eax, word ptr [OWN_BASE + RECORD + 44]
    push eax
    movzx eax, word ptr [OWN_BASE + RECORD + 40]
    push eax
    movzx eax, word ptr [OWN_BASE + RECORD + 42]
    push eax
    movzx eax, word ptr [OWN_BASE + RECORD + 6]
    push eax
    push dword ptr [OWN_BASE + RECORD + 8]
    push 0x23002                                # VM, IOPL 3
    push OWN_SEGMENT
    push offset v86_code
    LOAD_REGISTERS OWN_BASE
    iretd
.code16
v86_code:
    pushf
    call far ptr cs:[vector]
    int EXIT_VECTOR

# [vector] = the interrupt vector RECORD asks for.
copy_vector:
    xor ax, ax
    mov fs, ax
    movzx bx, byte ptr [RECORD + 4]
    shl bx, 2
    mov eax, fs:[bx]
    mov [vector], eax
    ret

# call from 16-bit protected mode, through a selector with the handler's base: record as in `call`
op_call_pm16:
    call copy_vector
    movzx eax, word ptr [vector + 2]
    shl eax, 4
    mov [gdt_target + 2], ax
    shr eax, 16
    mov [gdt_target + 4], al
    mov word ptr [vector + 2], 0x60
    ENTER_32 pm16_enter
.code32
pm16_enter:
    .byte 0xea
    .long pm16_code
    .word 0x20
.code16
pm16_code:
    mov ax, 0x50
    mov ss, ax
    mov esp, cs:[RECORD + 8]
    mov ax, 0x58
    mov es, ax
    mov ax, 0x28
    mov ds, ax
    mov fs, ax
    mov gs, ax
    LOAD_REGISTERS
    pushf
    call far ptr cs:[vector]
    int EXIT_VECTOR

# Eight bytes a vector: push its number, go to the common part. A vector with an error code has it below the number.
.code32
    .balign 8
fault_stubs:
.set n, 0
.rept IDT_GATES
    .byte 0x6a, n                               # push imm8
    .byte 0xe9
    .long fault_common - (. + 4)
    .balign 8
    .set n, n + 1
.endr
fault_common:
    push eax
    mov ax, 0x18
    mov ds, ax
    pop dword ptr [out_eax]
    mov [out_ebx], ebx
    mov [out_ecx], ecx
    mov [out_edx], edx
    mov [out_esi], esi
    mov [out_edi], edi
    mov [out_ebp], ebp
    pop eax
    mov [fault_vector], al
    cmp al, EXIT_VECTOR
    je 1f
    cmp al, 8
    je 2f
    cmp al, 10
    jb 1f
    cmp al, 14
    ja 1f
2:  pop ecx
1:  pop ebx                                     # EIP
    pop ecx                                     # CS
    pop dword ptr [out_eflags]
    mov [out_ds], cx                            # the frame's CS and IP, to say where a fault was
    mov [out_es], bx
    mov word ptr [out_fs], 0
    mov word ptr [out_gs], 0
    mov word ptr [out_ss], 0
    mov dword ptr [out_esp], 0
    jmp leave_32
.code16

# SSE registers 8 to 15, in long mode: u8 mode (0 fill, 1 report)
op_long_mode_sse:
    call big_gs
    mov edi, PAGE_TABLES
    mov ecx, 0x3000
1:  mov byte ptr gs:[edi], 0
    inc edi
    dec ecx
    jnz 1b
    mov edi, PAGE_TABLES
    mov dword ptr gs:[edi], PAGE_TABLES + 0x1007
    mov dword ptr gs:[edi + 0x1000], PAGE_TABLES + 0x2007
    mov dword ptr gs:[edi + 0x2000], 0x87       # one 2 MiB page
    mov eax, cr4
    mov [saved_cr4], eax
    or eax, 0x620                               # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, cr3
    mov [saved_cr3], eax
    mov eax, PAGE_TABLES
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    mov [saved_efer], eax
    or ax, 0x100                                # LME
    wrmsr
    ENTER_32 long_protected
.code32
long_protected:
    mov ax, 0x08
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, MODE_STACK
    mov eax, cr0
    and eax, 0xfffffff3
    or eax, 0x80000000
    mov cr0, eax
    .byte 0xea
    .long OWN_BASE + long_code
    .word 0x48
.code64
long_code:
    mov esi, offset sse_high + OWN_BASE
    cmp byte ptr [OWN_BASE + RECORD + 4], 0
    jne 1f
.irp n, 8, 9, 10, 11, 12, 13, 14, 15
    movdqu xmm\n, [rsi + (\n - 8) * 16]
.endr
    jmp 2f
1:
.irp n, 8, 9, 10, 11, 12, 13, 14, 15
    movdqu [SSE_REPORT + (\n - 8) * 16], xmm\n
.endr
2:  push 0x10
    push offset long_done
    .byte 0x48, 0xcb                            # far return
.code32
long_done:
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax
    mov ax, 0x18
    mov ds, ax
    mov ecx, 0xc0000080
    rdmsr
    mov eax, [saved_efer]
    wrmsr
    mov eax, [saved_cr3]
    mov cr3, eax
    mov eax, [saved_cr4]
    mov cr4, eax
    mov byte ptr [fault_vector], EXIT_VECTOR
    jmp leave_32
.code16

    .balign 16
# What XMM8-15 are filled with.
sse_high:
.set n, 0
.rept 128
    .byte (0x83 + n * 0x35) & 0xff
    .set n, n + 1
.endr

    .balign 4
entry32:       .long 0
               .word 0x30
               .word 0
service_entry: .long 0
vector:        .long 0
saved_cr3:     .long 0
saved_cr4:     .long 0
saved_efer:    .long 0
idt_pointer:
    .word IDT_GATES * 8 - 1
    .long IDT
saved_masks:   .byte 0, 0
fault_vector:  .byte 0
