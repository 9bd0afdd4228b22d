# Code for protected mode, 16-bit and 32-bit, and the way into it.

# Callers in virtual-8086 mode and in 16-bit protected mode. None can leave its mode, but system management mode can be entered from
# all of them: a write to the power management control port has the processor save all of its state and run `smi_handler`, which
# swaps that state for one of 64-bit code, once to come here and once to go back. Nothing else runs in system management mode.

# Raises the interrupt that `smi_handler` knows by the place. It may come an instruction or more late.
    .macro raise_smi place
    movb $SMI_COMMAND, %al
    outb %al, $SMI_PORT
\place:
    .rept 8
    .byte 0xeb, 0                       # JMP to what follows
    .endr
\place\()_end:
    .endm

    .code16
protected_caller:
    testb $SMI_WORKS, %cs:(fseg_state - F000)
    jz 1f
    pushw %ax
    raise_smi smi_call
    popw %ax
    # Without a way in: hardware interrupts are acknowledged, and what 16-bit code can say is said.
1:  pushw %bp
    movw %sp, %bp
    .irp vector, 0x09, 0x70, 0x74
    cmpw $\vector, V_VECTOR(%bp)
    je lone_\vector
    .endr
    callw lone_data
    jne 1f
    .irp vector, 0x11, 0x12, 0x16, 0x1a
    cmpw $\vector, V_VECTOR(%bp)
    je lone_\vector
    .endr
lone_unknown:
    # CF, AH = 86h: function not supported.
1:  orw $1, V_FLAGS(%bp)
    movb $0x86, %ah
lone_return:
    popw %bp
    addw $2, %sp
    iretw

# By BP, once that is saved.
    .set V_VECTOR, 2
    .set V_FLAGS, 8

# Whether the caller is in virtual-8086 mode, where CS is segment F000h: ZF.
    .macro in_virtual_8086_mode
    pushw %ax
    movw %cs, %ax
    cmpw $F_SEGMENT, %ax
    popw %ax
    .endm

# Whether the BIOS data area is in reach: ZF. In 16-bit protected mode it is where selector 40h is a data segment that looks like it, as
# APM and the Plug and Play BIOS want it there (APM BIOS Interface Specification 1.2, section 4; Plug and Play BIOS Specification 1.0A,
# section 4.5).
lone_data:
    in_virtual_8086_mode
    je 2f
    pushw %ax
    movw $BDA_SEGMENT, %ax
    verw %ax
    jnz 1f
    lslw %ax, %ax
    cmpw $BDA_KEYBOARD_STATE, %ax       # the last byte of it that is used
    jb 1f
    pushw %ds
    movw $BDA_SEGMENT, %ax
    movw %ax, %ds
    movw BDA_KEYBOARD_HEAD, %ax
    cmpw BDA_KEYBOARD_START, %ax
    jb 3f
    cmpw BDA_KEYBOARD_END, %ax
    jae 3f
    cmpw %ax, %ax
    jmp 4f
3:  orb $1, %al                         # no ZF
4:  popw %ds
1:  popw %ax
2:  retw

# Without a data area, bytes of the keyboard are dropped, and those of the mouse in all of 16-bit protected mode: its handler is called by
# segment. The clock's reason to interrupt is read, or none would follow.
lone_0x09:
    callw lone_data
    je lone_keyboard
    pushw %ax
    inb $PS2_DATA, %al
    jmp 2f
lone_0x70:
    pushw %ax
    movb $CMOS_STATUS_C, %al
    outb %al, $CMOS_INDEX
    inb $CMOS_DATA, %al
    jmp 1f
lone_0x74:
    in_virtual_8086_mode
    je lone_mouse
    pushw %ax
    inb $PS2_DATA, %al
1:  movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_SLAVE
2:  movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popw %ax
    jmp lone_return
# Where a caller goes on that waits for an interrupt, its vector on the stack: not every monitor takes HLT.
    .set LOOKS, 0x400
    .globl smi_wait
smi_wait:
    sti
    pushw %cx
    movw $LOOKS, %cx
1:  pause
    loop 1b
    popw %cx
    cli
    jmp protected_caller

# Where handlers return to that were called in virtual-8086 mode.
    .globl smi_handler_return
smi_handler_return:
    pushw %ax
    raise_smi smi_return
1:  jmp 1b

    .code64
smi_entry:
    movq DATA + v_stack, %rsp
    andq $-16, %rsp
    subq $(FXSAVE_SIZE + 16), %rsp
    fxsave (%rsp)
    movq %cr2, %rax
    movq %rax, FXSAVE_SIZE(%rsp)
    call *DATA + v_smi_serve
    testl %eax, %eax
    jnz call_restore                    # a handler came back
    movq FXSAVE_SIZE(%rsp), %rax
    movq %rax, %cr2
    fxrstor (%rsp)
smi_go_back:
    raise_smi smi_back
1:  jmp 1b

    .macro if_at place, then
    cmpl $(\place - F000 + LOW), %eax
    jb 7f
    cmpl $(\place\()_end - F000 + LOW), %eax
    jbe \then
7:
    .endm
    .macro copy_state from, to
    movl $\from, %esi
    movl $\to, %edi
    movl $(SMI_STATE_SIZE / 4), %ecx
    .byte 0x67                          # by ESI and EDI
    rep movsl
    .endm

# What system management mode runs: 16-bit code at its base + 8000h, data segments flat. Interrupts from elsewhere change nothing.
    .code16
    .globl smi_handler
smi_handler:
    movw %cs, %ax
    cmpw $(SMI_FIRST_BASE >> 4), %ax
    je 1f
    movl %cs:SMI_RIP, %eax
    addl %cs:SMI_CS_BASE, %eax
    if_at smi_back, 3f
    if_at smi_call, 2f
    if_at smi_return, 2f
    rsm
    # At its first place, which it leaves.
1:  movl $SMI_BASE, %cs:SMI_NEW_BASE
    copy_state SMI_FIRST_BASE + SMI_ENTRY, SMI_BASE + SMI_ENTRY
    copy_state SMI_FIRST_BASE + SMI_STATE, SMI_OURS
    movl $(SMI_OURS + SMI_RIP - SMI_STATE), %edi
    movl $(smi_entry - F000 + LOW), (%edi)
    movl $SMI_MOVED, %cs:SMI_RAX
    rsm
2:  copy_state SMI_BASE + SMI_STATE, DATA + v_smi_state
    copy_state SMI_OURS, SMI_BASE + SMI_STATE
    rsm
3:  copy_state DATA + v_smi_state, SMI_BASE + SMI_STATE
    rsm
    .globl smi_handler_end
smi_handler_end:

# INT 15h AH=89h, of which Rust has done the rest: interrupt controllers, A20, the descriptor of this code. Real mode, the caller's
# registers, its IP, CS and FLAGS on the stack. BP and AX are lost (IBM AT technical reference).
    .set USERS_DATA, 0x18
    .set USERS_EXTRA, 0x20
    .set USERS_STACK, 0x28
    .set USERS_CODE, 0x30
    .set OUR_CODE, 0x38
    .globl to_protected_mode
to_protected_mode:
    cli
    lgdtw %es:8(%si)
    lidtw %es:16(%si)
    popw %bp
    addw $4, %sp
    smsw %ax
    orb $CR0_PE, %al
    lmsw %ax
    ljmpw $OUR_CODE, $(1f - F000)
1:  movw $USERS_DATA, %ax
    movw %ax, %ds
    movw $USERS_EXTRA, %ax
    movw %ax, %es
    movw $USERS_STACK, %ax
    movw %ax, %ss
    pushw $USERS_CODE
    pushw %bp
    xorw %ax, %ax                       # and CF
    lretw

# Advanced Power Management for protected mode: the functions of bios/apm.rs, without its memory. Far-called; the code segment begins
# at F0000h and can be read, as AX=5302h and 5303h say. Source: APM BIOS Interface Specification 1.2, section 4.
# Looks that PM1 gets to switch the machine off: each is an exit to a hypervisor.
    .set PM1_LOOKS, 0x10000

    .macro apm_service far_return
    cmpb $0x53, %ah
    jne 20f
    cmpb $0x00, %al
    je 10f
    cmpb $0x05, %al
    je 11f
    cmpb $0x07, %al
    je 12f
    cmpb $0x0a, %al
    je 14f
    cmpb $0x0b, %al
    je 15f
    cmpb $0x0c, %al
    je 16f
    cmpb $0x0e, %al
    je 17f
    cmpb $0x10, %al
    je 18f
    # Disconnect, busy, enable, restore defaults, device management, engage.
    .irp function, 0x04, 0x06, 0x08, 0x09, 0x0d, 0x0f
    cmpb $\function, %al
    je 19f
    .endr
20: movb $APM_UNSUPPORTED, %ah
21: stc
    \far_return
10: movw $0x504d, %bx                   # "PM"
    movw $APM_INTERFACES, %cx
17: movw $APM_VERSION, %ax
19: clc
    \far_return
11: pushf
    sti
    hlt
    popf
    clc
    \far_return
12: cmpw $APM_ALL_DEVICES, %bx
    jne 22f
    testw %cx, %cx
    jz 23f
    cmpw $APM_OFF, %cx
    jb 11b
    jne 23f
    pushw %dx
    pushw %ax
    movw %cs:(apm_pm1_control - F000), %dx
    testw %dx, %dx
    jz 24f
    movw $PM1_SLEEP, %ax
    outw %ax, %dx
    movl $PM1_LOOKS, %ecx
13: inw %dx, %ax
    decl %ecx
    jnz 13b
    movw $APM_OFF, %cx
24: popw %ax
    popw %dx
    movb $APM_CANNOT_ENTER_STATE, %ah
    jmp 21b
22: movb $APM_UNKNOWN_DEVICE, %ah
    jmp 21b
23: movb $APM_OUT_OF_RANGE, %ah
    jmp 21b
14: cmpw $APM_ALL_DEVICES, %bx
    jne 22b
    # On the mains, no battery.
    movw $0x01ff, %bx
    movw $0x80ff, %cx
    movw $0xffff, %dx
    xorw %si, %si
    \far_return
15: movb $APM_NO_EVENT, %ah
    jmp 21b
16: xorw %cx, %cx
    \far_return
18: xorw %cx, %cx
    movb $0, %bl
    \far_return
    .endm

    .globl apm16_entry
apm16_entry:
    apm_service lretw
    .code32
    .globl apm32_entry
apm32_entry:
    apm_service lretl

    .balign 2
    .globl apm_pm1_control
apm_pm1_control:
    .word 0                             # 0 where the machine cannot be switched off
    .code16
