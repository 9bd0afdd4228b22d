# The guest of the tests of Xen's disks: a boot sector that reads and writes its disk again and again.
#
# Each round reads four blocks of 127 sectors from sector 64 on, writes the last of them to sector 3000 and reads it back from there,
# says "sum XXXXXXXX XXXXXXXX" on COM1, the sums of the words of the four blocks and of the last, or "error XX", asks for the memory map
# as boot loaders do before they start a kernel, and waits for half a second.
    .set    SECTORS, 127
    .set    BUFFER, 0x1000
    .set    COPY, 3000
    .include "start.inc"
    .att_syntax
    mov     %dl, drive

round:
    xor     %ebp, %ebp
    movl    $64, lba
1:  mov     $0x42, %ah
    call    transfer
    call    add_up
    add     %ebx, %ebp
    addl    $SECTORS, lba
    cmpl    $64 + 4 * SECTORS, lba
    jb      1b
    movl    $COPY, lba
    mov     $0x43, %ah
    call    transfer
    # What is read next was not there already.
    push    %es
    mov     $BUFFER, %ax
    mov     %ax, %es
    xor     %di, %di
    mov     $SECTORS * 256, %cx
    rep stosw
    pop     %es
    mov     $0x42, %ah
    call    transfer
    call    add_up
    mov     $text_sum, %si
    call    print
    mov     %ebp, %eax
    call    print_dword
    mov     $' ', %al
    call    put
    mov     %ebx, %eax
    call    print_dword
    mov     $'\n', %al
    call    put

    mov     $0xe820, %eax
    mov     $0x534d4150, %edx
    mov     $20, %ecx
    xor     %ebx, %ebx
    mov     $range, %di
    int     $0x15
    mov     0x46c, %ebx
    add     $9, %ebx
1:  hlt
    cmp     %ebx, 0x46c
    jb      1b
    jmp     round

# Moves a block by function AH.
transfer:
    xor     %al, %al
    mov     drive, %dl
    mov     $packet, %si
    int     $0x13
    jc      1f
    ret
1:  mov     $text_error, %si
    call    print
    movzbl  %ah, %eax
    call    print_dword
2:  hlt
    jmp     2b

# Leaves the sum of the block's words in EBX.
add_up:
    push    %ds
    mov     $BUFFER, %ax
    mov     %ax, %ds
    xor     %si, %si
    xor     %ebx, %ebx
    mov     $SECTORS * 256, %cx
1:  lodsw
    movzwl  %ax, %eax
    add     %eax, %ebx
    loop    1b
    pop     %ds
    ret

    .include "print.inc"

text_sum:       .asciz "sum "
text_error:     .asciz "error "
packet:         .byte 16, 0
                .word SECTORS, 0, BUFFER
lba:            .long 0, 0
    .org    510
    .word   0xaa55
    .set    range, 0x600
    .set    drive, 0x700
