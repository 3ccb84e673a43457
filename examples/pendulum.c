/* Fits the length and the friction of a pendulum to readings of its angle, by steps along the gradient whose size
   follows from how the gradient has changed (Barzilai and Borwein).

   swing.h and misfit.h are written by pendulum.py. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "misfit.h"
#include "swing.h"

#define READINGS 60
#define STEPS 200

static const double start = 1.2;

static double error_of(const double pendulum[2], const double *readings, double slope[2])
{
    double error;
    int status = misfit(pendulum, start, readings, &error, slope);
    if (status) {
        fprintf(stderr, "misfit: %s\n", misfit_message(status));
        exit(1);
    }
    return error;
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: %s LENGTH FRICTION\n", arguments[0]);
        return 2;
    }
    double readings[READINGS];
    if (swing(start, atof(arguments[1]), atof(arguments[2]), readings))
        return 1;

    double pendulum[2] = {1.0, 0.1}, slope[2], size = 0.1;
    error_of(pendulum, readings, slope);
    for (int step = 0; step < STEPS && hypot(slope[0], slope[1]) > 1e-12; step++) {
        double next[2], change[2], moved = 0, bent = 0;
        for (int i = 0; i < 2; i++)
            next[i] = pendulum[i] - size * slope[i];
        error_of(next, readings, change);
        for (int i = 0; i < 2; i++) {
            moved += (next[i] - pendulum[i]) * (next[i] - pendulum[i]);
            bent += (next[i] - pendulum[i]) * (change[i] - slope[i]);
            pendulum[i] = next[i];
            slope[i] = change[i];
        }
        size = fabs(bent) > 0 ? moved / fabs(bent) : size;
    }
    printf("length   %.6f\nfriction %.6f\n", pendulum[0], pendulum[1]);
    return 0;
}
