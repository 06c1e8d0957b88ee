<#
.SYNOPSIS
Writes the state of this Hyper-V host to a JSON file, for sites where WinRM is closed.
.DESCRIPTION
Copy the folder this script is in to the host and run it there as a member of Hyper-V
Administrators. It only reads. Hand the file to "vswitch hyperv import".
.PARAMETER Path
The file to write. It is <computer name>.json in the current folder unless told otherwise.
.EXAMPLE
.\Export-VswitchState.ps1 -Path C:\Temp\hv01.json
#>
[CmdletBinding()]
param([string] $Path = '')
Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'

if ($Path -eq '') {
    $Path = "$([Environment]::MachineName).json"
}
Import-Module -Name (Join-Path -Path $PSScriptRoot -ChildPath 'Vswitch\Vswitch.psd1')
Export-VswitchState -Path $Path
Write-Output -InputObject "Written: $Path"
