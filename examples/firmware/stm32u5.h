/* The few registers of an STM32U5 that the example uses, at their non-secure addresses (RM0456).
 *
 * Deliberately not the vendor's header: a reader sees every register that is touched, and why. */

#ifndef STM32U5_H
#define STM32U5_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))

#define RCC_AHB2ENR1 REGISTER(0x46020C8Cu) /* clock enable: bit 0 is GPIOA */
#define GPIOA_MODER REGISTER(0x42020000u)  /* two bits a pin: 01 is output */
#define GPIOA_BSRR REGISTER(0x42020018u)   /* low half sets a pin, high half clears it */
#define SYST_CSR REGISTER(0xE000E010u)     /* 7: on, with interrupt, from the core clock */
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)

#define CLOCK_HZ 4000000u /* MSIS, as it is after reset */
#define LED_PIN 5u        /* PA5 */

static inline void wait_for_interrupt(void)
{
    __asm__ volatile("wfi" ::: "memory");
}

#endif
