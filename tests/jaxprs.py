"""Walking through the equations of a jaxpr, those of inner ones (scans, calls, checkpoints) included."""


def equations(jaxpr):
    """Every equation, outer ones first."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in inner_jaxprs(equation):
            yield from equations(inner)


def scans(jaxpr):
    return (e for e in equations(jaxpr) if e.primitive.name == "scan")


def inner_jaxprs(equation):
    """Jaxprs among an equation's parameters, closed or not."""
    for value in equation.params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            inner = getattr(item, "jaxpr", item)
            if hasattr(inner, "eqns"):
                yield inner
