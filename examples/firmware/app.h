/* What a version of the example gives to the part that all versions share. */

#ifndef APP_H
#define APP_H

#include <stdint.h>

#define TICKS_PER_SECOND 4000u

/* Found in the image by whoever wants to know what it is; it stands right behind the vector table. */
struct about {
    char magic[8];
    uint32_t version;
    char name[20];
};

/* Counters in RAM, at its very start, where a debugger finds them. */
struct counters {
    uint32_t ticks;
    uint32_t seconds;
    uint32_t blinks;
};

extern const struct about about;
extern struct counters counters;

/* Tell whether the LED is lit in this tick; called TICKS_PER_SECOND times a second. */
int lit(uint32_t tick);

#endif
