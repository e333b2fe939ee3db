import unittest

from greet import greet


class TestGreet(unittest.TestCase):
    def test_the_name_is_used(self):
        self.assertEqual(greet("anchorite"), "Hello, anchorite")


if __name__ == "__main__":
    unittest.main()
