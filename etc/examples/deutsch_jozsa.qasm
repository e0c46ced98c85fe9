// Is f constant or balanced?  f(x) = x0 x1 xor x2 is balanced: never 000.
OPENQASM 2.0;
include "qelib1.inc";
qreg x[3];
qreg a[1];
creg c[3];
x a[0];
h a[0];
h x;
ccx x[0], x[1], a[0];
cx x[2], a[0];
h x;
measure x -> c;
