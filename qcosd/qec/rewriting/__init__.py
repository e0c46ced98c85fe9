# SPDX-License-Identifier: Apache-2.0
"""What optimisers of logical programs have in common: where a program may be rewritten, at which cost, and whether it does the same.

An optimiser brings other ways of writing a run of gates (`rewriter.Candidates`) and promises nothing of them.
"""
