def greet(name):
    return "Hello, world"
