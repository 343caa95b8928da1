/* Blink and count: the part that all versions share. */

#include "app.h"
#include "stm32u5.h"

__attribute__((section(".counters"), used)) struct counters counters;

static volatile uint32_t led_mask = 1u << LED_PIN;

void on_tick(void)
{
    static int was_lit;
    const int is_lit = lit(counters.ticks);

    GPIOA_BSRR = is_lit ? led_mask : led_mask << 16;
    counters.blinks += (uint32_t)(is_lit && !was_lit);
    was_lit = is_lit;
    counters.ticks++;
    counters.seconds = counters.ticks / TICKS_PER_SECOND;
}

int main(void)
{
    RCC_AHB2ENR1 |= 1u;
    (void)RCC_AHB2ENR1; /* the clock needs a moment before the first access to the port */
    GPIOA_MODER = (GPIOA_MODER & ~(3u << (2 * LED_PIN))) | (1u << (2 * LED_PIN));
    SYST_RVR = CLOCK_HZ / TICKS_PER_SECOND - 1u;
    SYST_CVR = 0;
    SYST_CSR = 7;
    for (;;) {
        wait_for_interrupt();
    }
}
