module sextant/testbed/images/odd

go 1.25.0
