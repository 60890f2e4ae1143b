# Reads a Vagrantfile without Vagrant and writes the script that each machine would get, FOLDER/NAME.sh, and everything
# that the Vagrantfile sets, FOLDER/calls.
#
#   ruby vagrantfile.rb VAGRANTFILE FOLDER

file, FOLDER = ARGV

# Stands for every object of Vagrant's configuration: takes all settings, and hands itself to all blocks.
class Anything
  def method_missing(name, *arguments, **options)
    File.write(File.join(FOLDER, "calls"), "#{@machine} #{name} #{arguments} #{options}\n", mode: "a") if name != :provision
    File.write(File.join(FOLDER, "#{@machine}.sh"), options[:inline]) if name == :provision
    # A provider's block gets the provider and the machine.
    yield self, self if block_given?
    self
  end

  def define(name)
    @machine = name
    yield self
  end

  def respond_to_missing?(*) = true
end

# The name that a Vagrantfile expects.
module Vagrant
  def self.configure(_version) = yield(Anything.new)
end

load file
