/* The vector table and what runs before main: copy .data, clear .bss. No C library is needed. */

#include <stdint.h>

extern uint32_t __stack_top, __data_load, __data_start, __data_end, __bss_start, __bss_end;

void on_reset(void);
void on_fault(void);
void on_tick(void);
int main(void);

union vector {
    uint32_t *stack;
    void (*handler)(void);
};

/* The 16 system vectors of a Cortex-M33; the example enables no interrupt of the chip's own. */
__attribute__((section(".vectors"), used)) static const union vector vectors[16] = {
    {.stack = &__stack_top},
    {.handler = on_reset},
    {.handler = on_fault}, /* NMI */
    {.handler = on_fault}, /* HardFault */
    {.handler = on_fault}, /* MemManage */
    {.handler = on_fault}, /* BusFault */
    {.handler = on_fault}, /* UsageFault */
    {.handler = on_fault}, /* SecureFault */
    {0},
    {0},
    {0},
    {.handler = on_fault}, /* SVCall */
    {.handler = on_fault}, /* DebugMonitor */
    {0},
    {.handler = on_fault}, /* PendSV */
    {.handler = on_tick},
};

void on_reset(void)
{
    const uint32_t *from = &__data_load;
    for (uint32_t *to = &__data_start; to < &__data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = &__bss_start; to < &__bss_end; to++) {
        *to = 0;
    }
    main();
    on_fault();
}

/* Stay: the watchdog of whoever started the app decides what happens next. */
void on_fault(void)
{
    for (;;) {
    }
}
