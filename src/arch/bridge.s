# The F segment: the bridge between real-mode code and 64-bit Rust. `entries.s`, `protected.s`, `reset.s`, `pci32.s` and `compat.s`
# go on in the same section.
#
# This section is the last of the image, so that in the ROM it ends at 4 GiB with the reset vector in place; start-up copies it
# to F000:C000, where it cannot be written once the guest runs. What has to be lies in a page below, at EF000h; the bridge runs in
# segment EF00h, which reaches both. Entries run in segment F000h. Code refers to itself by offset in a segment (`label - F000`,
# `label - EF00`), so entries work in the ROM, too.
#
# The bridge saves a caller in `slot` and not on the caller's stack, of which it uses four bytes; the slot is copied to the
# 64-bit stack before anything could come back here. It never loads DS, ES, FS, GS or SS with protected-mode selectors, so the
# hidden limits of an unreal-mode caller survive; hidden bases of FS and GS do, since their MSRs reach them in every mode.

    .section .fseg, "awx", @progbits
    .code16
    .globl fseg_start
fseg_start:
    .set F000, fseg_start - CODE_OFFSET
    .set EF00, F000 - (LOW - DATA)

# What Rust writes here before the segment is closed; zero in the ROM.
    .balign 4
    .globl fseg_state
fseg_state:     .long 0

# The hidden bases of FS, and one more of GS.
    .set MSR_FS_BASE, 0xc0000100
# What FXSAVE writes.
    .set FXSAVE_SIZE, 512
# Of the interrupt vector table.
    .set VECTORS_LIMIT, 256 * 4 - 1
# Where the F segment begins that the ROM ends with, below 4 GiB.
    .set ROM_END, 0xffff0000

# The segments of abi.rs, in their order; exception.rs enters the task state segment.
    .set TASK_STATE_BUSY, 2
    .balign 8
    .globl bridge_gdt
bridge_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00009b000000ffff + (DATA << 16)
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x008f93000000ffff
    .quad 0, 0
low_gdtr:
    .word GDT_LIMIT
    .long DATA + v_gdt
rom_gdtr:
    .word GDT_LIMIT
    .long bridge_gdt - F000 + ROM_END
real_idtr:
    .word VECTORS_LIMIT
    .long 0
    .balign 4
back_pointer:
    .long back16 - EF00
    .word CODE_16
    .balign 4
call_pointer:
    .long call16 - EF00
    .word CODE_16

# Makes sure that bit 20 of addresses works; uses AX, FS and GS. Sets \off to 1 if it did not.
    .macro enable_a20 off
    xorw %ax, %ax
    movw %ax, %fs
    decw %ax
    movw %ax, %gs
    movl %fs:0, %eax
    cmpl %gs:0x10, %eax
    jne 8f
    notl %fs:0
    movl %fs:0, %eax
    cmpl %gs:0x10, %eax
    notl %fs:0
    jne 8f
    inb $SYSTEM_CONTROL_A, %al
    orb $A20_OPEN, %al
    andb $(~FAST_RESET & 0xff), %al
    outb %al, $SYSTEM_CONTROL_A
    movw $1, %cs:(\off)
8:
    .endm

# From real mode to 64-bit code at \target; uses EAX, ECX, EDX. The rest of EFER is the last caller's, in `slot`: a read of it is an
# exit to a hypervisor. EFER.LME is never set while CR4.PAE is clear: QEMU's emulation of AMD SVM loses a hypervisor whose guest
# exits in that state.
    .macro enter_long_mode target
    movl $CR4_LONG, %eax
    movl %eax, %cr4
    movl %cs:(v_cr3), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    movl %cs:(S_EFER), %eax
    movl %cs:(S_EFER + 4), %edx
    btsl $EFER_LME, %eax
    wrmsr
    lgdtl %cs:(low_gdtr - EF00)
    movl $CR0_LONG, %eax
    movl %eax, %cr0
    ljmpl $CODE_64, $(\target - F000 + LOW)
    .endm

# What 64-bit code needs to take exceptions; uses ECX. The processor marked the segment busy when it was last loaded.
    .macro load_tables
    andb $~TASK_STATE_BUSY, DATA + v_gdt + TASK_STATE + 5
    movl $TASK_STATE, %ecx
    ltr %cx
    lidt DATA + v_idtr
    .endm

# Lets the guest hear of what came in the meantime, as if it came now. Its registers are all back.
    .macro tell_pending
    cmpb $0, %cs:(v_pending)
    je 9f
    callw tell_pending_now
9:
    .endm

# A BIOS call: the caller's stack holds the vector, then IP, CS, FLAGS.
bridge:
    cli
    cld
    pushw %ax
    smsw %ax
    testb $CR0_PE, %al
    popw %ax
    jnz protected_caller
    ljmpw $DATA_SEGMENT, $(1f - EF00)
1:  movl %eax, %cs:(S_EAX)
    popw %cs:(S_VECTOR)
    movl %ebx, %cs:(S_EBX)
    movl %ecx, %cs:(S_ECX)
    movl %edx, %cs:(S_EDX)
    movl %esi, %cs:(S_ESI)
    movl %edi, %cs:(S_EDI)
    movl %ebp, %cs:(S_EBP)
    movl %esp, %cs:(S_ESP)
    movw %ds, %cs:(S_DS)
    movw %es, %cs:(S_ES)
    movw %fs, %cs:(S_FS)
    movw %gs, %cs:(S_GS)
    movw %ss, %cs:(S_SS)
    sgdtl %cs:(S_GDTR)
    sidtl %cs:(S_IDTR)
    movl $MSR_FS_BASE, %ecx
    rdmsr
    movl %eax, %cs:(S_FS_BASE)
    incl %ecx
    rdmsr
    movl %eax, %cs:(S_GS_BASE)
    movw $0, %cs:(S_A20_OFF)
    enable_a20 S_A20_OFF
    movl %cr0, %eax
    movl %eax, %cs:(S_CR0)
    movl %cr3, %eax
    movl %eax, %cs:(S_CR3)
    movl %cr4, %eax
    movl %eax, %cs:(S_CR4)
    movl $MSR_EFER, %ecx
    rdmsr
    movl %eax, %cs:(S_EFER)
    movl %edx, %cs:(S_EFER + 4)
    enter_long_mode bridge64

    .code64
bridge64:
    load_tables
    movq DATA + v_stack, %rsp
    andq $-16, %rsp
    subq $(FXSAVE_SIZE + SLOT_SIZE + 16), %rsp
    fxsave (%rsp)
    # A page fault of ours changes it.
    movq %cr2, %rax
    movq %rax, (FXSAVE_SIZE + SLOT_SIZE)(%rsp)
    movl $(DATA + slot), %esi
    leaq FXSAVE_SIZE(%rsp), %rdi
    movl $(SLOT_SIZE / 8), %ecx
    rep movsq
    leaq FXSAVE_SIZE(%rsp), %rdi
    xorl %ebp, %ebp
    call *DATA + v_dispatch
    movl %eax, DATA + v_outcome
    leaq FXSAVE_SIZE(%rsp), %rsi
    movl $(DATA + slot), %edi
    movl $(SLOT_SIZE / 8), %ecx
    rep movsq
    movq (FXSAVE_SIZE + SLOT_SIZE)(%rsp), %rax
    movq %rax, %cr2
    fxrstor (%rsp)
    ljmpl *back_pointer(%rip)

    .code16
back16:
    movl %cs:(S_CR0), %eax
    movl %eax, %cr0
    ljmpw $DATA_SEGMENT, $(1f - EF00)
    # First of all the stack and the vectors, since an NMI may come.
1:  movw %cs:(S_SS), %ss
    movl %cs:(S_ESP), %esp
    lidtl %cs:(S_IDTR)
    movl $MSR_EFER, %ecx
    movl %cs:(S_EFER), %eax
    movl %cs:(S_EFER + 4), %edx
    wrmsr
    movl %cs:(S_CR4), %eax
    movl %eax, %cr4
    movl %cs:(S_CR3), %eax
    movl %eax, %cr3
    lgdtl %cs:(S_GDTR)
    cmpw $0, %cs:(S_A20_OFF)
    je 1f
    inb $SYSTEM_CONTROL_A, %al
    andb $(~(A20_OPEN | FAST_RESET) & 0xff), %al
    outb %al, $SYSTEM_CONTROL_A
1:  movw %cs:(S_DS), %ds
    movw %cs:(S_ES), %es
    movw %cs:(S_FS), %fs
    movw %cs:(S_GS), %gs
    movl $MSR_FS_BASE, %ecx
    movl %cs:(S_FS_BASE), %eax
    xorl %edx, %edx
    wrmsr
    incl %ecx
    movl %cs:(S_GS_BASE), %eax
    wrmsr
    movl %cs:(S_EBX), %ebx
    movl %cs:(S_ECX), %ecx
    movl %cs:(S_EDX), %edx
    movl %cs:(S_ESI), %esi
    movl %cs:(S_EDI), %edi
    movl %cs:(S_EBP), %ebp
    movl %cs:(S_EAX), %eax
    cmpw $1, %cs:(v_outcome)
    je 1f
    ja 2f
    tell_pending
    iretw
1:  pushw %cs:(S_VECTOR)
    tell_pending
    sti
    hlt
    jmp bridge
2:  pushw %cs:(v_chain + 2)
    pushw %cs:(v_chain)
    tell_pending
    lretw

tell_pending_now:
    testb $PENDING_DEBUG, %cs:(v_pending)
    jz 1f
    andb $~PENDING_DEBUG, %cs:(v_pending)
    int $0x01
1:  testb $PENDING_NMI, %cs:(v_pending)
    jz 1f
    andb $~PENDING_NMI, %cs:(v_pending)
    int $0x02
1:  retw

# Calls real-mode code: RDI = struct Call, RSI = its struct Saved, or 0 for code that never returns. A ROM starts with limits of
# 4 GiB, others with those that were there. The 64-bit stack goes to `Saved`, so that others have all of it meanwhile.
    .code64
    .globl bridge_call
bridge_call:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rdi
    movq %rsi, %rbx
    movq %rdi, %rsi
    movl $(DATA + call_slot), %edi
    movl $(CALL_SIZE / 8), %ecx
    rep movsq
    testq %rbx, %rbx
    jz 1f
    movq %rsp, SAVED_RSP(%rbx)
    movq SAVED_QUADS(%rbx), %rcx
    leaq (, %rcx, 8), %rax
    movq DATA + v_stack, %rsi
    subq %rax, %rsi
    movq SAVED_BYTES(%rbx), %rdi
    rep movsq
1:  cmpw $KIND_PREPARED, DATA + C_KIND
    je smi_go_back
    ljmpl *call_pointer(%rip)

    .code16
call16:
    cmpw $KIND_ROM, %cs:(C_KIND)
    jne 1f
    movw $DATA_16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %fs
    movw %ax, %gs
    movw %ax, %ss
1:  movl $CR0_REAL, %eax
    movl %eax, %cr0
    ljmpw $DATA_SEGMENT, $(1f - EF00)
1:  movw %cs:(C_SS), %ss
    movl %cs:(C_ESP), %esp
    lidtl %cs:(real_idtr - EF00)
    movl $MSR_EFER, %ecx
    movl %cs:(S_EFER), %eax
    movl %cs:(S_EFER + 4), %edx
    wrmsr
    xorl %eax, %eax
    movl %eax, %cr4
    movw %ax, %fs
    movw %ax, %gs
    pushw %cs:(C_TICKET)
    cmpw $KIND_WORDS, %cs:(C_KIND)
    jne 1f
    pushw %cs:(C_WORDS)
    pushw %cs:(C_WORDS + 2)
    pushw %cs:(C_WORDS + 4)
    pushw %cs:(C_WORDS + 6)
1:  movw %cs:(C_DS), %ds
    movw %cs:(C_ES), %es
    movl %cs:(C_EBX), %ebx
    movl %cs:(C_ECX), %ecx
    movl %cs:(C_EDX), %edx
    movl %cs:(C_ESI), %esi
    movl %cs:(C_EDI), %edi
    movl %cs:(C_EBP), %ebp
    movl %cs:(C_EAX), %eax
    pushw %cs:(C_FLAGS)
    cmpw $KIND_INTERRUPT, %cs:(C_KIND)
    je 2f
    popfw
2:  lcallw *%cs:(C_IP)
    pushfw
    cli
    cld
    popw %cs:(C_FLAGS)
    movl %eax, %cs:(C_EAX)
    movl %ebx, %cs:(C_EBX)
    movl %ecx, %cs:(C_ECX)
    movl %edx, %cs:(C_EDX)
    movl %esi, %cs:(C_ESI)
    movl %edi, %cs:(C_EDI)
    movl %ebp, %cs:(C_EBP)
    movw %ds, %cs:(C_DS)
    movw %es, %cs:(C_ES)
    # Whose return this is stands in the last word of its part of the stack.
    movw %sp, %bx
    decw %bx
    movw %ss, %ax
    testw %ax, %ax
    jz 1f
    orw $(HANDLER_STACK_SHARE - 1), %bx
    jmp 2f
1:  orw $(ROM_STACK_SIZE - 1), %bx
2:  movw %ss:-1(%bx), %ax
    movw %ax, %cs:(C_TICKET)
    enable_a20 C_A20
    enter_long_mode call_return

    .code64
call_return:
    load_tables
call_restore:
    movq DATA + v_stack, %rsp
    movq DATA + C_TICKET, %rax
    movl $(DATA + v_saved), %ebx
    movl $SAVED_COUNT, %ecx
1:  cmpq %rax, SAVED_TICKET(%rbx)
    je 2f
    addq $SAVED_SIZE, %rbx
    decl %ecx
    jnz 1b
    call *DATA + v_lost
2:  movq SAVED_QUADS(%rbx), %rcx
    leaq (, %rcx, 8), %rax
    movq %rsp, %rdi
    subq %rax, %rdi
    movq SAVED_BYTES(%rbx), %rsi
    rep movsq
    movq SAVED_RSP(%rbx), %rsp
    popq %rdi
    movl $(DATA + call_slot), %esi
    movl $(CALL_REGS_SIZE / 8), %ecx
    rep movsq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
