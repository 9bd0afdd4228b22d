# The small guest of the Xen tests: a boot sector that says what it was given, and then that it lives.
#
# On COM1 and on port 0xE9: "probe start", a line `e820 BASE LENGTH TYPE` in hexadecimal for each range that INT 15h AX=E820h
# reports, "probe end", then "tick" about once a second by the BIOS's timer tick. If the word at offset 0x1B6 is not zero it
# restarts the machine by the keyboard controller instead.
    .set    DEBUG_PORT, 0xe9
    .include "start.inc"
    .att_syntax
    mov     $text_start, %si
    call    print
    xor     %ebx, %ebx
next_range:
    mov     $0xe820, %eax
    mov     $0x534d4150, %edx
    mov     $20, %ecx
    mov     $range, %di
    int     $0x15
    jc      ranges_done
    push    %ebx
    mov     $text_range, %si
    call    print
    mov     range + 4, %eax
    call    print_dword
    mov     range, %eax
    call    print_dword
    mov     $' ', %al
    call    put
    mov     range + 12, %eax
    call    print_dword
    mov     range + 8, %eax
    call    print_dword
    mov     $' ', %al
    call    put
    mov     range + 16, %eax
    call    print_dword
    mov     $text_newline, %si
    call    print
    pop     %ebx
    test    %ebx, %ebx
    jnz     next_range
ranges_done:
    mov     $text_end, %si
    call    print
    cmpw    $0, restart
    jne     reset

live:
    mov     0x46c, %ebx
    add     $18, %ebx
1:  hlt
    cmp     %ebx, 0x46c
    jb      1b
    mov     $text_tick, %si
    call    print
    jmp     live

reset:
    mov     $0xfe, %al
    out     %al, $0x64
1:  hlt
    jmp     1b

    .include "print.inc"

text_start:     .asciz "probe start\n"
text_range:     .asciz "e820 "
text_newline:   .asciz "\n"
text_end:       .asciz "probe end\n"
text_tick:      .asciz "tick\n"

    .org    0x1b6
restart:        .word 0
    .org    510
    .word   0xaa55
    .set    range, 0x600
