/* Version 2: breathes. The LED fades in and out over two seconds, by pulse width, along a table. */

#include "app.h"

__attribute__((section(".about"), used)) const struct about about = {"FVBLINK", 2, "blinker two"};

#define PULSE_TICKS 40u /* 100 Hz: too fast for the eye */
#define STEPS 64u
#define TICKS_PER_STEP (2u * TICKS_PER_SECOND / STEPS)

/* Ticks lit of each pulse: half a sine, squared, because the eye sees brightness by its logarithm. */
static const uint8_t brightness[STEPS] = {
    0,  0,  0,  1,  2,  2,  3,  5,  6,  7,  9,  11, 12, 14, 16, 18, 20, 22, 24, 26, 28, 29,
    31, 33, 34, 35, 37, 38, 38, 39, 40, 40, 40, 40, 40, 39, 38, 38, 37, 35, 34, 33, 31, 29,
    28, 26, 24, 22, 20, 18, 16, 14, 12, 11, 9,  7,  6,  5,  3,  2,  2,  1,  0,  0,
};

int lit(uint32_t tick)
{
    return tick % PULSE_TICKS < brightness[tick / TICKS_PER_STEP % STEPS];
}
