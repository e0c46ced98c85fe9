// Teleports S H |0> from a to b and undoes it there: b is always 0, m is uniform.
OPENQASM 2.0;
include "qelib1.inc";
qreg a[1];
qreg pair[1];
qreg b[1];
creg m0[1];
creg m1[1];
creg out[1];

// the message
h a[0];
s a[0];

// a shared Bell pair
h pair[0];
cx pair[0], b[0];

// Bell measurement of message and first half
cx a[0], pair[0];
h a[0];
measure a[0] -> m0[0];
measure pair[0] -> m1[0];

// Pauli corrections of the second half
if (m1 == 1) x b[0];
if (m0 == 1) z b[0];

// undo the message
sdg b[0];
h b[0];
measure b[0] -> out[0];
