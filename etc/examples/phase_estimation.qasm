// The phase of T on |1>, which is 1/8 of a turn, to three bits: b1 b2 b3 = 0 0 1, always.
// The inverse Fourier transform is done bit by bit: what was measured decides how the next qubit is turned.
OPENQASM 2.0;
include "qelib1.inc";
qreg k[3];
qreg u[1];
creg b1[1];
creg b2[1];
creg b3[1];
x u[0];
h k;
cu1(pi) k[2], u[0];      // T^4
cu1(pi/2) k[1], u[0];    // T^2
t k[0];                  // T: on |1> a controlled turn is a turn of the control
h k[2];
measure k[2] -> b3[0];
if (b3 == 1) sdg k[1];
h k[1];
measure k[1] -> b2[0];
if (b3 == 1) tdg k[0];
if (b2 == 1) sdg k[0];
h k[0];
measure k[0] -> b1[0];
