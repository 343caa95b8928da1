/* Version 1: on for half a second, off for half a second. */

#include "app.h"

__attribute__((section(".about"), used)) const struct about about = {"FVBLINK", 1, "blinker one"};

int lit(uint32_t tick)
{
    return tick % TICKS_PER_SECOND < TICKS_PER_SECOND / 2;
}
