# What callers in virtual-8086 mode get where there is no way to 64-bit code: the keyboard, the mouse, equipment, memory size and ticks,
# by what is in the BIOS data areas. As in int09.rs, int16.rs, int1a.rs and int15/mouse.rs, but for Pause, SysReq, Print Screen, numbers
# typed with Alt, and the keyboard's lamps. Callers in 16-bit protected mode with the data area at selector 40h get the same but for the
# mouse, and for what others hook: interrupts 15h and 1Bh would be their own tables' affair.
#
# Entered from `protected_caller` with BP on the stack and pointing there; V_VECTOR and V_FLAGS go by it.

    .code16
    .set CARRY, 1 << 0
    .set ZERO, 1 << 6

# DS becomes segment 40h, until `leave_data`.
    .macro enter_data
    pushw %ds
    pushw $BDA_SEGMENT
    popw %ds
    .endm
    .macro leave_data
    popw %ds
    jmp lone_return
    .endm

lone_0x11:
    enter_data
    movw BDA_EQUIPMENT, %ax
    leave_data
lone_0x12:
    enter_data
    movw BDA_MEMORY_KB, %ax
    leave_data

lone_0x1a:
    cmpb $1, %ah
    ja lone_unknown
    enter_data
    je 1f
    movw BDA_TICKS, %dx
    movw BDA_TICKS + 2, %cx
    movb BDA_MIDNIGHT, %al
    jmp 2f
1:  movw %dx, BDA_TICKS
    movw %cx, BDA_TICKS + 2
    movb $0, %ah
2:  movb $0, BDA_MIDNIGHT
    andw $~CARRY, V_FLAGS(%bp)
    leave_data

# The functions of the enhanced keyboard are the first ones and this.
    .set ENHANCED, 0x10
lone_0x16:
    enter_data
    pushw %bx
    movb %ah, %bl
    andb $~ENHANCED, %bl
    cmpb $1, %bl
    jb lone_read
    je lone_peek
    cmpb $2, %bl
    je lone_shifts
    cmpb $5, %ah
    je lone_put
    popw %bx
    popw %ds
    jmp lone_unknown
lone_read:
1:  movw BDA_KEYBOARD_HEAD, %bx
    cmpw BDA_KEYBOARD_TAIL, %bx
    jne 3f
    pushw %cx
    movw $LOOKS, %cx
    sti
2:  pause
    loop 2b
    cli
    popw %cx
    jmp 1b
3:  pushw (%bx)
    callw lone_next
    movw %bx, BDA_KEYBOARD_HEAD
    popw %bx
    callw lone_key_for_caller
    jmp lone_done
lone_peek:
    orw $ZERO, V_FLAGS(%bp)
    movw BDA_KEYBOARD_HEAD, %bx
    cmpw BDA_KEYBOARD_TAIL, %bx
    je lone_done
    andw $~ZERO, V_FLAGS(%bp)
    movw (%bx), %bx
    callw lone_key_for_caller
    jmp lone_done
lone_shifts:
    movb BDA_SHIFT, %al
    testb $ENHANCED, %ah
    jz lone_done
    movb BDA_HELD, %bl
    movb %bl, %ah
    andb $(HELD_LEFT_CTRL | HELD_LEFT_ALT | HELD_SCROLL | HELD_NUM | HELD_CAPS), %ah
    testb $HELD_SYSREQ, %bl
    jz 1f
    orb $0x80, %ah
1:  movb BDA_KEYBOARD_STATE, %bl
    andb $(KEYBOARD_RIGHT_CTRL | KEYBOARD_RIGHT_ALT), %bl
    orb %bl, %ah
    jmp lone_done
lone_put:
    callw lone_store
    setc %al
lone_done:
    popw %bx
    leave_data

# The key BX as a caller of function AH sees it, in AX.
lone_key_for_caller:
    testb %bh, %bh
    jz 3f
    cmpb $0xf0, %bl
    je 2f
    testb $ENHANCED, %ah
    jnz 3f
    cmpb $0xe0, %bh
    jne 1f
    movb $0x35, %bh
    cmpb $'/', %bl
    je 3f
    movb $0x1c, %bh                     # Enter
    jmp 3f
1:  cmpb $0xe0, %bl
    jne 3f
2:  movb $0, %bl
3:  movw %bx, %ax
    retw

# The place in the keyboard buffer behind BX.
lone_next:
    addw $2, %bx
    cmpw BDA_KEYBOARD_END, %bx
    jb 1f
    movw BDA_KEYBOARD_START, %bx
1:  retw

# Puts the key CX into the buffer; CF where it is full. BX is lost.
lone_store:
    pushw %si
    movw BDA_KEYBOARD_TAIL, %si
    movw %si, %bx
    callw lone_next
    cmpw BDA_KEYBOARD_HEAD, %bx
    stc
    je 1f
    movw %cx, (%si)
    movw %bx, BDA_KEYBOARD_TAIL
    clc
1:  popw %si
    retw

# The mouse's interrupt: the guest's handler hears of whole packets.
lone_mouse:
    enter_data
    pushaw
    inb $PS2_COMMAND, %al
    notb %al
    testb $(PS2_OUTPUT_FULL | PS2_FROM_MOUSE), %al
    jnz 4f
    inb $PS2_DATA, %al
    movw BDA_EBDA_SEGMENT, %cx
    movw %cx, %ds
    movzbw EBDA_MOUSE_FLAGS, %cx
    testb $MOUSE_HANDLER_SET, %cl
    jz 4f
    andw $7, %cx                        # CX = the last byte's number
    movzbw EBDA_MOUSE_INDEX, %si
    andw $7, %si
    movb %al, EBDA_MOUSE_DATA(%si)
    andb $~7 & 0xff, EBDA_MOUSE_INDEX
    cmpw %cx, %si
    jb 3f
    callw end_of_slave_interrupt
    cmpw $7, %cx
    je 5f
    xorw %si, %si
1:  xorw %ax, %ax
    cmpw %cx, %si
    ja 2f
    movb EBDA_MOUSE_DATA(%si), %al
2:  pushw %ax
    incw %si
    cmpw $4, %si
    jb 1b
    jmp 6f
5:  .irp at, 0, 2, 4, 6                 # eight bytes are four words
    pushw EBDA_MOUSE_DATA + \at
    .endr
6:  lcallw *EBDA_MOUSE_HANDLER
    addw $8, %sp
    jmp 7f
3:  incw %si
    movw %si, %ax
    orb %al, EBDA_MOUSE_INDEX
4:  call end_of_slave_interrupt
7:  popaw
    leave_data

end_of_slave_interrupt:
    movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_SLAVE
    outb %al, $PIC_MASTER
    retw

# The keyboard's interrupt.
lone_keyboard:
    enter_data
    pushaw
    inb $PS2_COMMAND, %al
    andb $(PS2_OUTPUT_FULL | PS2_FROM_MOUSE), %al
    cmpb $PS2_OUTPUT_FULL, %al
    jne 1f
    inb $PS2_DATA, %al
    in_virtual_8086_mode
    jne 2f
    # Who hooks INT 15h AH=4Fh may change the byte, or drop it.
    movb $0x4f, %ah
    stc
    int $0x15
    jnc 1f
2:  callw lone_scan_code
1:  movb $PIC_END_OF_INTERRUPT, %al
    outb %al, $PIC_MASTER
    popaw
    leave_data

    .set RELEASED, 1 << 7
    .set KEY_CTRL, 0x1d
    .set KEY_LEFT_SHIFT, 0x2a
    .set KEY_RIGHT_SHIFT, 0x36
    .set KEY_ALT, 0x38
    .set KEY_CAPS, 0x3a
    .set KEY_NUM, 0x45
    .set KEY_SCROLL, 0x46
    .set KEY_INSERT, 0x52
    .set KEY_DELETE, 0x53

# What locks do: toggle \shift when they go down, once however long they are held.
    .macro lock_key shift, held
    testb %al, %al
    js 8f
    testb $\held, BDA_HELD
    jnz 9f
    orb $\held, BDA_HELD
    xorb $\shift, BDA_SHIFT
    retw
8:  andb $~\held & 0xff, BDA_HELD
9:  retw
    .endm
# A key that there is twice.
    .macro side_key either, left, right
    movw $BDA_HELD, %si
    movb $\left, %cl
    testb $KEYBOARD_LAST_E0, %bl
    jz 8f
    movw $BDA_KEYBOARD_STATE, %si
    movb $\right, %cl
8:  callw lone_bit
    andb $~\either & 0xff, BDA_SHIFT
    testb $\left, BDA_HELD
    jnz 8f
    testb $\right, BDA_KEYBOARD_STATE
    jz 9f
8:  orb $\either, BDA_SHIFT
9:  retw
    .endm

# Sets the bits CL at SI where the byte AL is that of a press, else clears them.
lone_bit:
    testb %al, %al
    js 1f
    orb %cl, (%si)
    retw
1:  notb %cl
    andb %cl, (%si)
    retw

# Follows the byte AL of scan code set 1. Changes all registers but DS.
lone_scan_code:
    movb $KEYBOARD_LAST_E0, %bh
    cmpb $0xe0, %al
    je 1f
    movb $KEYBOARD_LAST_E1, %bh
    cmpb $0xe1, %al
    jne 2f
1:  orb %bh, BDA_KEYBOARD_STATE
    retw
2:  movb %al, %ah
    andb $~RELEASED & 0xff, %ah         # AH = key
    movb BDA_KEYBOARD_STATE, %bl        # BL = the prefixes before it
    testb $KEYBOARD_LAST_E1, %bl
    jz 3f
    # Pause: E1 1D 45, and for its release E1 9D C5.
    cmpb $KEY_CTRL, %ah
    je 4f
    andb $~(KEYBOARD_LAST_E0 | KEYBOARD_LAST_E1) & 0xff, BDA_KEYBOARD_STATE
4:  retw
3:  andb $~(KEYBOARD_LAST_E0 | KEYBOARD_LAST_E1) & 0xff, BDA_KEYBOARD_STATE
    cmpb $KEY_LEFT_SHIFT, %ah
    movb $SHIFT_LEFT, %cl
    je 5f
    cmpb $KEY_RIGHT_SHIFT, %ah
    movb $SHIFT_RIGHT, %cl
    jne 6f
    # Those with a prefix come with cursor keys and mean nothing.
5:  testb $KEYBOARD_LAST_E0, %bl
    jnz 4b
    movw $BDA_SHIFT, %si
    jmp lone_bit
6:  cmpb $KEY_CTRL, %ah
    jne 7f
    side_key SHIFT_CTRL, HELD_LEFT_CTRL, KEYBOARD_RIGHT_CTRL
7:  cmpb $KEY_ALT, %ah
    jne 7f
    side_key SHIFT_ALT, HELD_LEFT_ALT, KEYBOARD_RIGHT_ALT
7:  cmpb $KEY_CAPS, %ah
    jne 7f
    lock_key SHIFT_CAPS, HELD_CAPS
7:  cmpb $KEY_NUM, %ah
    jne 7f
    lock_key SHIFT_NUM, HELD_NUM
7:  cmpb $KEY_SCROLL, %ah
    jne lone_press
    testb $SHIFT_CTRL, BDA_SHIFT
    jnz 7f
    testb $KEYBOARD_LAST_E0, %bl
    jnz 4b
    lock_key SHIFT_SCROLL, HELD_SCROLL
    # Ctrl-Break empties the buffer, and leaves an empty key.
7:  testb %al, %al
    js 4b
    movw BDA_KEYBOARD_START, %bx
    movw %bx, BDA_KEYBOARD_HEAD
    movw %bx, BDA_KEYBOARD_TAIL
    orb $0x80, BDA_BREAK_FLAG
    in_virtual_8086_mode
    jne 7f
    int $0x1b
7:  xorw %cx, %cx
    jmp lone_store

# Any other key AH, whose byte is AL, and the prefix before it in BL.
lone_press:
    cmpb $KEY_INSERT, %ah
    jne 2f
    testb %al, %al
    jns 1f
    andb $~HELD_INSERT & 0xff, BDA_HELD
    retw
1:  testb $HELD_INSERT, BDA_HELD
    jnz 2f
    orb $HELD_INSERT, BDA_HELD
    xorb $SHIFT_INSERT, BDA_SHIFT
2:  testb %al, %al
    js 9f
    movb BDA_SHIFT, %bh
    movb %bh, %al
    andb $(SHIFT_CTRL | SHIFT_ALT), %al
    cmpb $(SHIFT_CTRL | SHIFT_ALT), %al
    jne 3f
    cmpb $KEY_DELETE, %ah
    jne 3f
    movw $WARM_START, BDA_RESET_FLAG
    jmp restart
    # SI = the key's row.
3:  movzbw %ah, %si
    testb $KEYBOARD_LAST_E0, %bl
    jnz 4f
    cmpw $KEY_ROWS, %si
    jae 9f
    movb %cs:(key_locks - F000)(%si), %cl
    shlw $3, %si
    addw $(key_rows_start - F000), %si
    jmp 5f
4:  subw $EXTENDED_KEYS_FIRST, %si
    cmpw $EXTENDED_KEY_ROWS, %si
    jae 9f
    movb $0, %cl
    shlw $3, %si
    addw $(extended_key_rows_start - F000), %si
    # Its words: plain, with Shift or what locks it, with Ctrl, with Alt.
5:  movb $6, %al
    testb $SHIFT_ALT, %bh
    jnz 6f
    movb $4, %al
    testb $SHIFT_CTRL, %bh
    jnz 6f
    testb %cl, %bh
    setnz %cl
    testb $(SHIFT_LEFT | SHIFT_RIGHT), %bh
    setnz %al
    xorb %cl, %al
    addb %al, %al
6:  movzbw %al, %ax
    addw %ax, %si
    movw %cs:(%si), %cx
    testw %cx, %cx
    jz 9f
    callw lone_store
9:  retw

# By scan code; build.rs has the words of keyboard/keymap.rs.
    .balign 2
key_rows_start:
    key_rows
extended_key_rows_start:
    extended_key_rows
# The lock that swaps the first two words.
key_locks:
    key_lock_bits
