"""The convergence theory, machine-checked: each theorem stated, proved by exact certificates, attacked, measured on the core.

``convergence.theorems.all_theorems()`` gives the theorems; ``python -m convergence`` (or ``make theory``) checks them all and
writes the page. To add a theorem, see ``convergence/theorems/README.md``.
"""
