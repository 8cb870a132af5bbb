"""Keep the threads of linear algebra from waiting for each other."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_for_algebra() -> AbstractContextManager[object]:
    """A context in which BLAS and OpenMP, as far as they are loaded, use one thread.

    scikit-learn makes thousands of small calls of them, and their threads spin between the calls: on two cores that
    others used too, a fit of 4,000 x 768 numbers took ten times the processor time with two threads than with one.
    """
    return threadpool_limits(limits=1)
